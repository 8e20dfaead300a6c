"""Links and images."""

from __future__ import annotations

from dataclasses import replace

import pytest

from meta_sync.sync.eligibility import IneligibleReason
from meta_sync.sync.mapping_issues import IssueCode
from meta_sync.sync.mapping_settings import MappingSettings
from meta_sync.sync.mapping_urls import MediaBase, absolute_url
from tests.unit.mapping.builders import SETTINGS, data_of, issue_codes, mapped, refusal

MEDIA = replace(SETTINGS, media_base_url="https://cdn.example/media/")


def store(**changes: str | None) -> MappingSettings:
    return replace(SETTINGS, **changes)  # type: ignore[arg-type]  # only texts are changed


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("https://a.example/x.jpg?w=1&h=2#f", "https://a.example/x.jpg?w=1&h=2#f"),
        ("HTTPS://A.example/x", "https://A.example/x"),
        ("//a.example/x", "https://a.example/x"),
        (" https://a.example/x\n", "https://a.example/x"),
        ("https://a.example/a b.jpg", "https://a.example/a%20b.jpg"),
        ("https://a.example/a%20b.jpg", "https://a.example/a%20b.jpg"),
        ("https://a.example/50%.jpg", "https://a.example/50%25.jpg"),
        ("https://a.example/é", "https://a.example/%C3%A9"),
        ("https://a.example/\ud800", "https://a.example/%EF%BF%BD"),
        ("https://bücher.example/x", "https://xn--bcher-kva.example/x"),
        ("https://straße.example", "https://xn--strae-oqa.example"),
        ("http://a.example:8080/x", "http://a.example:8080/x"),
        ("http://[2001:db8::1]:80/x", "http://[2001:db8::1]:80/x"),
        ("https://a.example?x", "https://a.example?x"),
        ("https://a.example", "https://a.example"),
        ("ftp://a.example/x", None),
        ("javascript:alert(1)", None),
        ("data:image/png;base64,AAAA", None),
        ("https://user:pass@a.example/x", None),
        ("https://a.example:99999/x", None),
        ("https://a.example:0/x", None),
        ("https://a..example/x", None),
        ("https:///x", None),
        ("https://a b.example/", None),
        ("a.example/x", None),
        ("/x", None),
        ("", None),
        ("https://" + "a" * 64 + ".example:80/", None),
        ("https://" + "é" * 300, None),
        ("https://a\ud800.example/", None),
        ("https://ä\u200b.example/", None),
    ],
)
def test_an_address_is_absolute_and_encoded_or_none(given: str, expected: str | None) -> None:
    assert absolute_url(given) == expected


# --- Links ----------------------------------------------------------------------------------------------------------


def test_a_link_comes_from_the_variant_then_the_product_then_the_storefront() -> None:
    links = {"variant_link": "https://a.example/v", "product_link": "https://a.example/p"}
    assert data_of(**links)["link"] == "https://a.example/v"
    assert data_of(**{**links, "variant_link": " "})["link"] == "https://a.example/p"
    assert data_of()["link"] == "https://shop.example/product/cotton-shirt"


def test_a_link_that_is_no_web_address_is_passed_over_and_named() -> None:
    result = mapped(variant_link="ftp://a.example/v", product_link="https://a.example/p")
    assert result.data["link"] == "https://a.example/p"
    assert [(found.code, found.field) for found in result.issues] == [(IssueCode.LINK_UNUSABLE, "link")]


def test_a_link_from_the_root_is_completed_with_the_storefront() -> None:
    settings = store(storefront_base_url="https://shop.example/en/")
    assert data_of(settings, product_link="/p/1 2")["link"] == "https://shop.example/p/1%202"
    assert data_of(settings, product_link="//other.example/p")["link"] == "https://other.example/p"


def test_every_token_of_the_path_is_url_encoded() -> None:
    settings = store(
        storefront_base_url="https://shop.example/en/",
        storefront_product_path="{productId}/{slug}?v={variantId}&sku={sku} x",
    )
    data = data_of(settings, product_id="p/1", slug="ä b", variant_id="v&1", sku=" s#1 ")
    assert data["link"] == "https://shop.example/en/p%2F1/%C3%A4%20b?v=v%261&sku=s%231%20x"
    assert (
        data_of(store(storefront_product_path="?p={slug}"))["link"] == "https://shop.example?p=cotton-shirt"
    )


@pytest.mark.parametrize(
    ("changes", "columns"),
    [
        ({}, {"slug": None}),
        ({}, {"slug": " "}),
        ({"storefront_base_url": None}, {}),
        ({"storefront_base_url": "shop.example"}, {}),
        ({"storefront_product_path": "/{sku}"}, {"sku": None}),
        ({}, {"slug": None, "variant_link": "mailto:x"}),
    ],
)
def test_without_anything_to_build_a_link_from_there_is_none(
    changes: dict[str, str | None], columns: dict[str, str]
) -> None:
    assert refusal(store(**changes), **columns) is IneligibleReason.MISSING_STOREFRONT_SLUG


def test_an_address_of_the_own_machine_is_sent_and_named() -> None:
    result = mapped(variant_link="http://localhost:3000/p", product_thumbnail="http://127.0.0.1/i.jpg")
    assert [(found.code, found.field) for found in result.issues] == [
        (IssueCode.URL_NOT_PUBLIC, "link"),
        (IssueCode.URL_NOT_PUBLIC, "image_link"),
    ]


# --- Images ---------------------------------------------------------------------------------------------------------


def url(name: str) -> str:
    return f"https://cdn.example/{name}.jpg"


def test_images_are_ranked_and_listed_once() -> None:
    data = data_of(
        variant_thumbnail=url("vt"),
        variant_images=[url("v1"), "", url("vt")],
        product_thumbnail=url("pt"),
        product_images=[url("v1"), url("p1"), url("pt")],
    )
    assert data["image_link"] == url("vt")
    assert data["additional_image_link"] == [url("v1"), url("pt"), url("p1")]


@pytest.mark.parametrize(
    ("columns", "main"),
    [
        ({"variant_thumbnail": "", "variant_images": [url("v1")]}, "v1"),
        ({"variant_thumbnail": None, "variant_images": []}, "pt"),
        ({"product_thumbnail": None}, "p1"),
    ],
)
def test_the_first_image_there_is_becomes_the_main_one(columns: dict[str, object], main: str) -> None:
    changes = {"product_thumbnail": url("pt"), "product_images": [url("p1")], **columns}
    assert data_of(**changes)["image_link"] == url(main)


def test_a_single_image_needs_no_list() -> None:
    assert "additional_image_link" not in data_of()


def test_at_most_20_additional_images_are_sent() -> None:
    exactly = mapped(product_thumbnail=url("0"), product_images=[url(str(n)) for n in range(21)])
    assert len(exactly.data["additional_image_link"]) == 20
    assert exactly.issues == ()
    result = mapped(product_thumbnail=url("0"), product_images=[url(str(n)) for n in range(22)])
    assert result.data["additional_image_link"] == [url(str(n)) for n in range(1, 21)]
    assert issue_codes(result) == [IssueCode.IMAGES_CUT]


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("a.jpg", "https://cdn.example/media/a.jpg"),
        ("/x/a b.jpg", "https://cdn.example/media/x/a%20b.jpg"),
        ("x/a#1.jpg", "https://cdn.example/media/x/a%231.jpg"),
        ("a.jpg?w=500", "https://cdn.example/media/a.jpg?w=500"),
        ("//other.example/a.jpg", "https://other.example/a.jpg"),
        ("https://other.example/a b.jpg", "https://other.example/a%20b.jpg"),
    ],
)
def test_bare_keys_get_the_media_base(given: str, expected: str) -> None:
    assert data_of(MEDIA, product_thumbnail=given)["image_link"] == expected


@pytest.mark.parametrize("given", [None, "", "  "])
def test_no_image_is_a_reason(given: str | None) -> None:
    assert refusal(MEDIA, product_thumbnail=given) is IneligibleReason.MISSING_IMAGE


@pytest.mark.parametrize(
    "given",
    ["ftp://a.example/x.jpg", "data:image/png;base64,AA", "s3://bucket/key", "https://u:p@a.example/i.jpg"],
)
def test_an_unusable_image_is_passed_over_and_named(given: str) -> None:
    result = mapped(MEDIA, product_thumbnail=given, product_images=["ok.jpg"])
    assert result.data["image_link"] == "https://cdn.example/media/ok.jpg"
    assert issue_codes(result) == [IssueCode.IMAGE_UNUSABLE]
    assert refusal(MEDIA, product_thumbnail=given) is IneligibleReason.MISSING_IMAGE


def test_a_resolver_takes_what_is_complete_as_it_is() -> None:
    assert MediaBase(None).resolve(url("a")) == url("a")


def test_a_bare_key_without_a_media_base_is_no_image() -> None:
    assert refusal(product_thumbnail="a.jpg") is IneligibleReason.MISSING_IMAGE


def test_a_version_is_appended_to_every_image_and_to_nothing_else() -> None:
    images = {"product_thumbnail": url("a"), "product_images": [url("b") + "?w=1#top"]}
    plain, versioned = mapped(**images), mapped(image_version=3, **images)
    assert versioned.data["image_link"] == url("a") + "?meta_sync_version=3"
    assert versioned.data["additional_image_link"] == [url("b") + "?w=1&meta_sync_version=3#top"]
    assert {**versioned.data, "image_link": 0, "additional_image_link": 0} == {
        **plain.data,
        "image_link": 0,
        "additional_image_link": 0,
    }
    assert versioned.hash != plain.hash
