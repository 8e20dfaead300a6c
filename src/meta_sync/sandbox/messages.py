"""The sentences Meta puts into batch answers and reports, by key and language.

The English ones were pasted from real answers or Meta's samples where such exist; the rest follow their pattern.
Of the Czech ones only the sentence about an invalid value was seen, the others stand for "not English".
"""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["Finding", "render"]

_INVALID = "These attributes are invalid and need to be updated in the feed file: The {field} information under  is invalid. Review for more details"

_ENGLISH = {
    "unrecognised_field": "Unrecognised field: A request for item {id} contains unrecognised field: '{field}'",
    "duplicate": "Duplicate retailer_id in batch api call - {id}.",
    "invalid_now": "The {field} information under  is invalid. Review for more details",
    "invalid": _INVALID,
    "unknown_method": 'Invalid value: Value passed at position {line} (id={id}) is invalid: "Unknown method"',
    "missing_id": 'A required field is missing: Products without "id" information can\'t be uploaded. Please check that '
    "this field is included for each product in a separate, labelled column.",
    "missing_title": 'A required field is missing: Products without "name" information can\'t be uploaded. Please check '
    "that this field is included for each product in a separate, labelled column.",
    "missing_price": "A required field is missing: Products need to have prices to run in ads. Include a price for each "
    "product in your data feed file and upload it again. Prices must include the cost and an ISO currency code (for "
    "example: 10 GBP instead of £10 for pound sterling).",
    "missing_availability": "A required field is missing: Products need to have availability listed to run in ads. "
    "Include the current availability for each product in your data feed file and upload it again. You can only add "
    'the supported values "in stock", "out of stock", "preorder", "available for order", "discontinued", "pending" in '
    'US English under the "availability" column.',
    "missing_description": "Descriptions are missing: Items need to have descriptions to be shown in your shop and ads. "
    "Go to your original data source and include a description for each item, then update them in the same way that "
    "you created them.",
    "missing_field": 'Invalid value: Value passed at position {line} (id={id}) is invalid: "You cannot create a '
    'EntProductItem without required field {field}"',
    "bad_url": "URL Incorrectly Formatted: The provided URL is formatted incorrectly. If multiple links are included in "
    "one field, separate them using a comma. Specifying username and password in the URL is not supported.",
    "unknown_item": 'Invalid value: Value passed at position {line} (id={id}) is invalid: "The item does not exist and '
    'allow_upsert is false"',
    "sale_not_lower": "Invalid sale price: The sale price must be lower than the price of the item and in the same "
    "currency.",
    "price_not_positive": "Invalid price: The price of an item must be greater than zero.",
    "id_used_by_group": 'Invalid value: Value passed at position {line} (id={id}) is invalid: "The retailer id '
    '{field} is used by a product group"',
    "no_category": "These fields have missing information: Make items easier to discover by providing "
    "google_product_category information.",
}

_CZECH = {
    "unrecognised_field": "Nerozpoznané pole: Požadavek na položku {id} obsahuje nerozpoznané pole: '{field}'",
    "duplicate": "Duplicitní retailer_id ve volání batch api - {id}.",
    "invalid_now": "Hodnota {field} v rámci  není platná. Zkontrolujte to",
    "invalid": "Hodnota {field} v rámci  není platná. Zkontrolujte to",
    "unknown_method": "Neplatná hodnota: Neznámá metoda na pozici {line} (id={id})",
    "missing_id": "Chybí povinné pole: Produkty bez informace „id“ nelze nahrát.",
    "missing_title": "Chybí povinné pole: Produkty bez informace „name“ nelze nahrát.",
    "missing_price": "Chybí povinné pole: Produkty musí mít uvedenou cenu.",
    "missing_availability": "Chybí povinné pole: Produkty musí mít uvedenou dostupnost.",
    "missing_description": "Chybí popisy: Položky musí mít popis.",
    "missing_field": "Neplatná hodnota: Na pozici {line} (id={id}) chybí povinné pole {field}",
    "bad_url": "Nesprávný formát adresy URL: Zadaná adresa URL má nesprávný formát.",
    "unknown_item": "Neplatná hodnota: Položka na pozici {line} (id={id}) neexistuje",
    "sale_not_lower": "Neplatná akční cena: Akční cena musí být nižší než cena položky.",
    "price_not_positive": "Neplatná cena: Cena položky musí být vyšší než nula.",
    "id_used_by_group": "Neplatná hodnota: Id {field} na pozici {line} (id={id}) používá skupina produktů",
    "no_category": "V těchto polích chybí informace: google_product_category.",
}


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing to say about one record of a call.

    Attributes
    ----------
    key
        Which sentence; ``refused`` means the sentence is ``text`` in every language.
    id
        The record's retailer id as it was sent.
    line
        The record's place in the call, from 0.
    field
        The field the sentence names, if any.
    """

    key: str
    id: str
    line: int
    field: str = ""
    text: str = ""

    @property
    def about_required_field(self) -> bool:
        """Whether it says that something required is missing."""
        return self.key.startswith("missing_")


def render(finding: Finding, *, english: bool) -> str:
    """The sentence for a reader, in English or else in Czech."""
    if finding.key == "refused":
        return finding.text
    texts = _ENGLISH if english else _CZECH
    return texts[finding.key].format(id=finding.id, line=finding.line, field=finding.field)
