"""Text of a store as Meta wants it: plain, on one line, not shouting, not too long. Nothing here knows a field.

Every scan is linear in the text: the text comes from outside and may be made to be slow.
"""

from __future__ import annotations

import re
import unicodedata
from html import unescape
from html.entities import html5

__all__ = ["calm_description", "calm_title", "clean_text", "cut", "html_to_text", "is_shouting", "plain_text"]

_NOT_TEXT = re.compile("[\x00-\x08\x0e-\x1b\x7f-\x84\x86-\x9f\u200b\u2060\ufeff\ud800-\udfff]")
"""Control characters that are no white space, characters without width that carry no meaning, halves of characters.
Zero-width joiners stay: emoji and Persian need them."""


def clean_text(text: str) -> str:
    """Plain text on one line: markup removed, entities decoded, white space collapsed, invisible characters removed."""
    # Printable means: no white space but the plain space, no control and no format characters.
    if text.isprintable() and "<" not in text and "&" not in text and "  " not in text:
        return text.strip(" ")
    for _ in range(_MAX_PASSES):
        if "<" in text or "&" in text:
            text = html_to_text(text)
        text = " ".join(text.split())
        if text.isprintable() or (visible := _NOT_TEXT.sub("", text)) == text:
            return text
        text = visible  # taking a character out may have closed a tag or an entity
    return plain_text(text.replace("<", " "))


def plain_text(text: str) -> str:
    """Text that is no markup, such as a SKU, on one line: only white space and invisible characters are touched."""
    if text.isprintable() and "  " not in text:
        return text.strip(" ")
    return " ".join(_NOT_TEXT.sub("", text).split())


def cut(text: str, limit: int) -> str:
    """The text at no more than ``limit`` characters, without half a letter (base and accent stay together)."""
    if len(text) <= limit:
        return text
    end = limit
    while end and (unicodedata.combining(text[end]) or text[end] in _JOINS or text[end - 1] == _JOINER):
        end -= 1
    return text[: end or limit].rstrip()


_JOINER = "\u200d"
_JOINS = frozenset(("\u200d", "\ufe0e", "\ufe0f"))


# --- Markup ---------------------------------------------------------------------------------------------------------

_REST_OF_TAG = r"""(?:[^<>"']*+(?:"[^"]*+"[^<>"']*+|'[^']*+'[^<>"']*+)*+>|[^<>]*+>)"""
"""To the end of a tag; a ``>`` in a quoted value does not end it, unless the quotes do not match."""

_INLINE_NAMES = (
    "a(?:bbr|cronym)?|b(?:d[io]|ig)?|c(?:ite|ode)|d(?:ata|el|fn)|em|font|i(?:ns)?|kbd|mark|o:p|q|"
    "s(?:amp|mall|pan|trike|trong|u[bp])?|t(?:ime|t)|u|var|wbr"
)
# Both cases are spelled out, and names share their first letter: ignoring case makes the search five times as slow.
_INLINE_TAG = re.compile(rf"</?(?:{_INLINE_NAMES}|{_INLINE_NAMES.upper()})(?=[\s/>])" + _REST_OF_TAG)
"""Tags inside a word or sentence: they leave no gap. Every other tag separates words."""
_TAG = re.compile(r"</?[a-zA-Z]" + _REST_OF_TAG)
_DECLARATION = re.compile(r"<(?:![a-zA-Z]|\?[a-zA-Z])[^<>]*+>")
_SILENT_ELEMENT = re.compile(
    r"<([sS][cC][rR][iI][pP][tT]|[sS][tT][yY][lL][eE]|[tT][eE][mM][pP][lL][aA][tT][eE]|[hH][eE][aA][dD])(?=[\s/>])"
)
_ENTITY = re.compile(r"&(?:#[0-9]{1,7}|#[xX][0-9a-fA-F]{1,6}|[a-zA-Z][a-zA-Z0-9]{1,31});")
_MAX_PASSES = 4
"""Texts escaped twice are common, three times rare; without an end a nest of ``&amp;amp;`` would cost its square."""


def html_to_text(text: str) -> str:
    """The text of an HTML fragment, white space not yet collapsed. Escaped HTML is read too, since Meta flags tags."""
    for _ in range(_MAX_PASSES):
        before = text
        if "<" in text:
            text = _without_tags(text)
        if "&" in text:
            text = _ENTITY.sub(_decoded, text)
        if text == before:
            return text
    return text.replace("<", " ") if _TAG.search(text) else text


def _decoded(entity: re.Match[str]) -> str:
    name = entity[0]
    return unescape(name) if name[1] == "#" else html5.get(name[1:], name)


def _without_tags(text: str) -> str:
    if "<!" in text or "<?" in text:
        text = _without_comments(text).replace("<![CDATA[", " ").replace("]]>", " ")
        text = _DECLARATION.sub(" ", text)
    if _SILENT_ELEMENT.search(text):
        text = _without_silent_elements(text)
    return _TAG.sub(" ", _INLINE_TAG.sub("", text))


def _without_comments(text: str) -> str:
    kept = []
    position = 0
    while (start := text.find("<!--", position)) >= 0:
        kept.append(text[position:start])
        end = text.find("-->", start + 4)
        if end < 0:
            return "".join(kept)
        position = end + 3
    kept.append(text[position:])
    return "".join(kept)


def _without_silent_elements(text: str) -> str:
    """Remove elements whose content no visitor reads; one that is never closed takes the rest with it, as in browsers."""
    lowered = text.lower() if text.isascii() else re.sub("[A-Z]+", lambda run: run[0].lower(), text)
    kept = []
    position = 0
    while (opening := _SILENT_ELEMENT.search(text, position)) is not None:
        kept.append(text[position : opening.start()])
        end = lowered.find(f"</{opening[1].lower()}", opening.end())
        if end < 0:
            return " ".join(kept)
        position = text.find(">", end) + 1
        if position == 0:
            return " ".join(kept)
    kept.append(text[position:])
    return " ".join(kept)


# --- Shouting -------------------------------------------------------------------------------------------------------

_WORD = re.compile(r"(?<!\w)[^\W\d_]++(?:['’][^\W\d_]++){0,3}+(?!\w)")
"""Letters that stand alone: ``X200`` and ``500ML`` are no words but names and measures."""
_SENTENCE_START = re.compile(r"(?:^\W*|[.!?]\s[^\w\s]?)\w")
_ACRONYM_WORDS = (
    "AAA ABS AC AI AUX BPA CPU DC DIY DIN EU EVA GPU IP ISO LED LCD NASA NBA NFC NFL OEM OLED PU PVC QLED RAM ROM "
    "SIM UK UPF US USA USB UV VIP HDMI WIFI XS XL XXL XXXL"
)
_ACRONYMS = frozenset(_ACRONYM_WORDS.split())
_VOWELS = frozenset("AEIOUY")


def is_shouting(text: str) -> bool:
    """Whether a text is written in capitals as a whole, and is more than acronyms, sizes and model names."""
    if not text.isupper():
        return False
    capitals = sum(char.isupper() for char in text)
    if 2 * capitals < sum(char.isalpha() for char in text):
        return False  # mostly a script without capitals
    lengths = [len(word) for word in _WORD.findall(text) if word not in _ACRONYMS]
    return (
        any(length >= 5 for length in lengths)
        or sum(length >= 4 for length in lengths) >= 2
        or sum(length >= 3 for length in lengths) >= 3
    )


def calm_title(text: str) -> str:
    """A shouted title with capital initials: ``SUPER USB CABLE`` becomes ``Super USB Cable``."""
    return _WORD.sub(lambda word: word[0] if _is_acronym(word[0]) else word[0].capitalize(), text)


def calm_description(text: str) -> str:
    """A shouted description in sentences: ``GREAT SHOES. BUY!`` becomes ``Great shoes. Buy!``."""
    lowered = _WORD.sub(lambda word: word[0] if _is_acronym(word[0]) else word[0].lower(), text)
    return _SENTENCE_START.sub(lambda start: start[0][:-1] + start[0][-1].upper(), lowered)


def _is_acronym(word: str) -> bool:
    return word in _ACRONYMS or (len(word) <= 3 and word.isascii() and _VOWELS.isdisjoint(word))
