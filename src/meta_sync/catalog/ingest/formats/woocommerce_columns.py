"""Column names of WooCommerce's product export in the languages shops use it in.

WooCommerce translates the header, not the cells. The names are those of its translations as seen in exports.
"""

from __future__ import annotations

import re

from meta_sync.catalog.ingest.values import simplify

__all__ = ["attribute_column", "meaning_of"]

_NAMES = {
    "id": "ID|Identyfikator",
    "type": "Type|Typ|Tipo|Тип",
    "sku": "SKU|UGS|Référence|Artikelnummer|Artikelnummer (SKU)|Art.-Nr.|COD|Артикул",
    "gtin": "EAN",
    "name": "Name|Nom|Nombre|Nome|Naam|Nazwa|Имя|Название",
    "published": "Published|Veröffentlicht|Publié|Publicado|Pubblicato|Gepubliceerd|Opublikowano|Opublikowany"
    "|Опубликован",
    "visibility": "Visibility in catalog|Sichtbarkeit im Katalog|Katalogsichtbarkeit|Visibilité dans le catalogue"
    "|Visibilidad en el catálogo|Visibilità nel catalogo|Zichtbaarheid in catalogus|Visibilidade no catálogo"
    "|Widoczność w katalogu|Видимость в каталоге",
    "short_description": "Short description|Kurzbeschreibung|Description courte|Descripción corta|Breve descrizione"
    "|Korte omschrijving|Korte beschrijving|Descrição curta|Krótki opis|Короткое описание|Краткое описание",
    "description": "Description|Beschreibung|Descripción|Descrizione|Beschrijving|Descrição|Opis|Описание",
    "sale_start": "Date sale price starts|Datum, an dem Angebotspreis beginnt|Datum, an dem der Angebotspreis beginnt"
    "|Angebotspreis gültig ab|Date de début de promo|Día en que empieza el precio rebajado"
    "|Data di partenza del prezzo in saldo|Startdatum actieprijs|Data de preço promocional começa em"
    "|Data rozpoczęcia promocji|Дата начала действия продажной цены",
    "sale_end": "Date sale price ends|Datum, an dem Angebotspreis endet|Datum, an dem der Angebotspreis endet"
    "|Angebotspreis gültig bis|Date de fin de promo|Día en que termina el precio rebajado"
    "|Data in cui termina l'offerta|Termine data del prezzo di vendita|Einddatum actieprijs"
    "|Data de preço promocional termina em|Data zakończenia promocji|Дата окончания действия продажной цены",
    "in_stock": "In stock?|Vorrätig?|Auf Lager?|En stock ?|En inventaire?|¿Existencias?|¿En inventario?"
    "|Op voorraad?|Em estoque?|W magazynie?|Na stanie?|В наличии?",
    "quantity": "Stock|Lager|Bestand|Lagerbestand|Inventaire|Inventario|Magazzino|Voorraad|Estoque|Stan magazynowy"
    "|Запасы",
    "backorders": "Backorders allowed?|Lieferrückstände erlaubt?|Rückstände erlaubt?"
    "|Autoriser les commandes de produits en rupture ?|¿Permitir reservas de productos agotados?"
    "|Abilita gli ordini arretrati?|Nabestellingen toestaan?|São permitidas encomendas?"
    "|Pozwalać na zamówienia oczekujące (na dostawę do magazynu)?|Задержанный заказ возможен?",
    "sale_price": "Sale price|Angebotspreis|Tarif promo|Prix promo|Precio rebajado|Prezzo in offerta|Actieprijs"
    "|Preço promocional|Cena promocyjna|Цена распродажи|Акционная цена",
    "regular_price": "Regular price|Regulärer Preis|Normaler Preis|Tarif régulier|Prix régulier|Precio normal"
    "|Precio regular|Prezzo di listino|Reguliere prijs|Preço|Preço normal|Cena|Cena regularna|Базовая цена",
    "categories": "Categories|Kategorien|Catégories|Categorías|Categorie|Categorieën|Categorias|Kategorie|Категории",
    "brand": "Brands|Brand|Marken|Marques|Marcas|Marca|Marchi|Merken|Marki|Бренды",
    "images": "Images|Bilder|Imágenes|Immagine|Immagini|Afbeeldingen|Imagens|Obrazki|Изображения",
    "parent": "Parent|Übergeordnetes Produkt|Superior|Genitore|Hoofd|Ascendente|Element nadrzędny|Nadrzędny"
    "|Родительский",
    "slug": "Slug",
    "permalink": "Permalink|Product URL",
}
_MEANINGS = {simplify(name): meaning for meaning, names in _NAMES.items() for name in names.split("|")}
_ATTRIBUTE_WORD = re.compile(r"at+rib|атт?рибут|eigenschap|atrybut")
_VALUE_WORD = re.compile(r"value|valeur|wert|valor|valut|waarde|wartosc|значени")
_NAME_WORDS = frozenset(("name", "nom", "nombre", "nome", "naam", "nazwa", "имя", "название"))
_NUMBER = re.compile(r"(?<![0-9])[0-9]{1,3}(?![0-9])")


def meaning_of(name: str) -> str | None:
    """What a column holds, or ``None`` for columns that are not used. Attribute columns: see `attribute_column`."""
    simple = simplify(name)
    if simple.startswith("gtin_upc_ean"):  # "GTIN, UPC, EAN, or ISBN" in every language
        return "gtin"
    return _MEANINGS.get(simple) or ("attribute" if attribute_column(name) else None)


def attribute_column(name: str) -> tuple[int, str] | None:
    """Number of the attribute and whether the column holds its ``name`` or its ``value``; ``None`` for others."""
    simple = simplify(name)
    if not _ATTRIBUTE_WORD.search(simple):
        return None
    number = _NUMBER.search(simple)
    if number is None:
        return None
    if _VALUE_WORD.search(simple):
        return int(number.group()), "value"
    return (int(number.group()), "name") if _NAME_WORDS & set(simple.split("_")) else None
