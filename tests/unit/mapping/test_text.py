"""Titles, descriptions and the cleaning of text."""

from __future__ import annotations

import pytest

from meta_sync.sync.eligibility import IneligibleReason
from meta_sync.sync.mapping_issues import IssueCode
from meta_sync.sync.mapping_text import calm_description, calm_title, clean_text, cut, is_shouting, plain_text
from tests.unit.mapping.builders import data_of, issue_codes, mapped, refusal


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("Plain text", "Plain text"),
        ("  outer  and   inner\n\tspace\xa0", "outer and inner space"),
        ("<p>Hello World!</p>", "Hello World!"),
        ("<p>One</p><p>Two</p>", "One Two"),
        ("<ul><li>a</li><li>b</li></ul>", "a b"),
        ("line<br>line<BR/>line", "line line line"),
        ("H<sub>2</sub>O and <B>bo</B>ld", "H2O and bold"),
        ('<a href="https://x.example/?a=1&amp;b=2">here</a>', "here"),
        ('<img alt="a > b" src="x">after', "after"),
        ("<p class=it's>unmatched quote</p>", "unmatched quote"),
        ("Tom &amp; Jerry", "Tom & Jerry"),
        ("Tom & Jerry, R&D", "Tom & Jerry, R&D"),
        ("a&nbsp;&nbsp;b &eacute; &#233; &#xE9; &euro;", "a b é é é €"),
        ("https://x.example/?a=1&copy=2", "https://x.example/?a=1&copy=2"),
        ("&unknown; &", "&unknown; &"),
        ("3 < 5 and 7 > 4, I <3 it", "3 < 5 and 7 > 4, I <3 it"),
        ("5 &lt; 6", "5 < 6"),
        ("&lt;p&gt;escaped &amp;eacute;&lt;/p&gt;", "escaped é"),
        ("AT&amp;amp;T", "AT&T"),
        ("a<!-- hidden <b>x</b> -->b", "ab"),
        ("a<!-- never closed", "a"),
        ("<!DOCTYPE html><?xml version='1.0'?>text", "text"),
        ("<![CDATA[<p>inside</p>]]>", "inside"),
        ("<style>p{color:red}</style>text<SCRIPT>alert('<b>')</SCRIPT> more", "text more"),
        ("text<script>never closed", "text"),
        ("text<script>x</script never ended", "text"),
        ("<header>kept</header>", "kept"),
        ("zero\u200bwidth \x07bell\ufeff", "zerowidth bell"),
        ("<\u200bb>bold", "bold"),
        ("family 👨\u200d👩\u200d👧", "family 👨\u200d👩\u200d👧"),
        ("half \ud800 char", "half char"),
        ("&#0;x", "\ufffdx"),
        ("", ""),
        ("<p> &nbsp; </p>", ""),
    ],
)
def test_text_is_cleaned(given: str, expected: str) -> None:
    assert clean_text(given) == expected


def test_a_deep_nest_of_escapes_ends_without_a_tag() -> None:
    nested = "&" + "amp;" * 30 + "lt;b&" + "amp;" * 30 + "gt;"
    assert "<b>" not in clean_text(nested)
    hidden = "\u200b"
    for _ in range(9):  # each character taken out completes the entity of the next
        hidden = f"&{hidden}#8203;"
    assert clean_text(f"<{hidden}b>").startswith("&")


@pytest.mark.parametrize(
    "unit", ["<!--", "<a ", "<a '", '<a "x" ', "<script ", "&amp;", "A'", "<", ". ", "&#"]
)
def test_hostile_text_takes_no_longer_than_its_length(unit: str) -> None:
    """200,000 characters would take minutes if any scan were quadratic; the test would not come back."""
    text = clean_text(unit * (200_000 // len(unit)))
    calm_title(text)
    calm_description(text)


def test_plain_text_keeps_what_looks_like_markup() -> None:
    assert plain_text(" AB<C>&amp;\n\x00 1 ") == "AB<C>&amp; 1"
    assert plain_text(" A1 ") == "A1"


# --- Shouting -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("SUPER COTTON T-SHIRT", "Super Cotton T-Shirt"),
        ("WOMEN'S RUNNING SHOES", "Women's Running Shoes"),
        ("USB CABLE 500ML X200 FOR PC", "USB Cable 500ML X200 For PC"),
        ("NEW RED BAG", "New Red Bag"),
        ("ROBE D'ÉTÉ BRODÉE", "Robe D'été Brodée"),
        ("КРАСИВОЕ ПЛАТЬЕ", "Красивое Платье"),
        ("ΚΟΚΚΙΝΟΣ ΔΡΟΜΟΣ", "Κοκκινος Δρομος"),
        ("ADIDAS", "Adidas"),
    ],
)
def test_shouted_titles_are_calmed(given: str, expected: str) -> None:
    result = mapped(title=given)
    assert result.data["title"] == expected
    assert issue_codes(result) == [IssueCode.TEXT_ALL_CAPS]


@pytest.mark.parametrize(
    "title",
    [
        "USB",
        "IKEA",
        "LG TV 4K",
        "HDMI USB LED",
        "KX-1000 PRO",
        "X200 500ML",
        "iPhone 15 PRO MAX",
        "ALL CAPS but not quite",
        "日本製 カバン",
        "日本製のすてきなカバン USB CABLE",
        "قميص قطن",
        "12345",
    ],
)
def test_what_is_no_shouting_stays(title: str) -> None:
    result = mapped(title=title)
    assert result.data["title"] == title
    assert result.issues == ()


def test_a_shouted_description_becomes_sentences() -> None:
    result = mapped(description="GREAT SHOES FOR ALL. BUY THE USB VERSION! (NEW) “REALLY”")
    assert result.data["description"] == "Great shoes for all. Buy the USB version! (New) “really”"
    assert [found.field for found in result.issues] == ["description"]


def test_shouting_is_about_words_not_letters() -> None:
    assert is_shouting("BLUE SHOE")
    assert not is_shouting("BLUE A B C")
    assert not is_shouting("")


# --- Lengths --------------------------------------------------------------------------------------------------------


def test_a_title_has_at_most_200_characters() -> None:
    assert data_of(title="x" * 200)["title"] == "x" * 200
    result = mapped(title="x" * 201)
    assert result.data["title"] == "x" * 200
    assert issue_codes(result) == [IssueCode.TITLE_CUT]


def test_calming_may_not_make_a_title_longer_than_it_may_be() -> None:
    assert len(data_of(title="İSTANBUL İĞNE " * 15)["title"]) <= 200


def test_a_description_has_at_most_9999_characters() -> None:
    result = mapped(description="y" * 10_000)
    assert result.data["description"] == "y" * 9_999
    assert issue_codes(result) == [IssueCode.DESCRIPTION_CUT]


def test_a_cut_leaves_no_half_letter_and_no_space_at_the_end() -> None:
    assert cut("abc def", 4) == "abc"
    assert cut("abe\u0301", 3) == "ab"
    assert cut("ab👨\u200d👩", 4) == "ab"
    assert cut("\u0301" * 9, 4) == "\u0301" * 4
    assert cut("abc", 3) == "abc"


# --- Sources --------------------------------------------------------------------------------------------------------


def test_the_description_falls_back_to_subtitle_and_title() -> None:
    assert data_of(description="<p> </p>", subtitle="Sub")["description"] == "Sub"
    assert data_of(description=None, subtitle="")["description"] == "Cotton shirt"
    assert data_of(description="D", subtitle="Sub")["description"] == "D"


@pytest.mark.parametrize("title", [None, "", "   ", "<br>", "\u200b"])
def test_a_title_of_nothing_is_none(title: str | None) -> None:
    assert refusal(title=title) is IneligibleReason.MISSING_TITLE


def test_markup_in_titles_brands_and_categories_is_read() -> None:
    data = data_of(
        title="<p>Black &amp; White</p>", brand="H&amp;M", categories=["Home &amp; Garden", "<b>Mugs</b>"]
    )
    assert data["title"] == "Black & White"
    assert data["brand"] == "H&M"
    assert data["product_type"] == "Home & Garden > Mugs"
