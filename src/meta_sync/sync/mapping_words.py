"""Words that stores use and the one word Meta takes for each. Data only.

The words of other languages are the ones shop systems themselves write into exports; the list is no dictionary.
"""

from __future__ import annotations

from typing import Final

__all__ = ["AGE_GROUPS", "AVAILABILITIES", "CONDITIONS", "GENDERS", "OPTION_FIELDS", "fold", "option_field"]


def fold(word: str) -> str:
    """The form in which words are looked up: no case, no underscores or hyphens, single spaces."""
    return " ".join(word.casefold().replace("_", " ").replace("-", " ").split())


def _table(words: dict[str, str]) -> dict[str, str]:
    """Word lists by meaning, turned round: folded word to meaning, the usual spellings added as they are."""
    table: dict[str, str] = {}
    for meaning, listed in words.items():
        for word in filter(None, (meaning, *listed.split(", "))):
            for spelling in (word, fold(word), word.capitalize(), word.title(), word.upper()):
                table[spelling] = meaning
    return table


AVAILABILITIES: Final = _table(
    {
        "in stock": "instock, available, limited availability, limitedavailability, onlineonly, instoreonly",
        "out of stock": "outofstock, sold out, soldout, unavailable, not available, pending, mark as sold, mark as expired",
        "available for order": "availablefororder, backorder, back order, onbackorder, on backorder, madetoorder",
        "preorder": "pre order, presale, pre sale",
        "discontinued": "",
    }
)
"""Feed words for availability. schema.org's are written together."""

CONDITIONS: Final = _table(
    {
        "new": "brand new, newcondition, new with tags, neu, nuevo, neuf, nuovo, novo, nieuw, ny, nowy, новый",
        "refurbished": "renewed, refurbishedcondition, reconditioned, remanufactured, open box, open box new, cpo, "
        "certified pre owned, generalüberholt, reacondicionado, reconditionné, ricondizionato, recondicionado",
        "used": "usedcondition, second hand, secondhand, pre owned, preowned, pre loved, vintage, used like new, used good, "
        "used fair, gebraucht, usado, occasion, d'occasion, usato, gebruikt, brugt, begagnad, używany, б/у",
    }
)

GENDERS: Final = _table(
    {
        "female": "f, w, woman, women, woman's, women's, womens, lady, ladies, girl, girls, girl's, girls', damen, frau, "
        "frauen, femme, femmes, mujer, mujeres, donna, donne, feminino, mulher, dames, vrouwen, dam, kvinna, kobieta, kadın",
        "male": "m, man, men, man's, men's, mens, gentleman, gentlemen, boy, boys, boy's, boys', herren, mann, männer, "
        "homme, hommes, hombre, hombres, uomo, uomini, masculino, homem, heren, mannen, herr, mężczyzna, erkek",
        "unisex": "all, any, both, everyone, all genders, gender neutral, neutral, u, uni, mixte",
    }
)

AGE_GROUPS: Final = _table(
    {
        "adult": "adults, grown up, grown ups, erwachsene, adulte, adultes, adulto, adultos, adulti, volwassenen, yetişkin",
        "all ages": "all, any, everyone, allages",
        "teen": "teens, teenager, teenagers, youth, junior, juniors",
        "kids": "kid, child, children, children's, kids', kinder, enfant, enfants, niños, niño, bambini, crianças, kinderen",
        "toddler": "toddlers, kleinkind",
        "infant": "infants, baby, babies, bebé, bébé, bebe, neonati",
        "newborn": "newborns, new born, neugeborene",
    }
)

OPTION_FIELDS: Final = _table(
    {
        "color": "colour, colors, colours, color name, colour name, farbe, couleur, colore, cor, kleur, färg, farve, farge, "
        "väri, barva, farba, kolor, renk, culoare, szín, цвет, колір, 色, カラー, 颜色, 顏色, 색상, لون, اللون, צבע",
        "size": "sizes, size name, clothing size, shoe size, größe, grösse, groesse, taille, talla, taglia, tamanho, maat, "
        "storlek, størrelse, koko, rozmiar, velikost, veľkosť, beden, mărime, méret, размер, розмір, サイズ, 尺码, 尺寸, "
        "사이즈, مقاس, المقاس, מידה",
        "material": "materials, fabric, fabrics, stoff, matière, tissu, materiale, tessuto, tejido, tecido, materiaal, stof, "
        "materiał, materiál, malzeme, kumaş, материал, матеріал, 素材, 材质, 소재",
        "pattern": "patterns, print, prints, muster, motif, estampado, estampa, padrão, fantasia, patroon, mönster, mønster, "
        "wzór, vzor, desen, узор, принт, 柄",
        "gender": "sex, target gender, geschlecht, género, genero, gênero, sesso, geslacht, kön, køn, kjønn, płeć, pohlaví, "
        "cinsiyet, пол, стать, 性別, 性别",
        "age_group": "age group, agegroup, age range, target age, altersgruppe, tranche d'âge, grupo de edad, fascia d'età, "
        "faixa etária, leeftijdsgroep, åldersgrupp, yaş grubu, возрастная группа",
    }
)
"""Option names that stand for a field of their own."""

_PREFIXES = ("product ", "item ", "variant ", "attribute pa ", "attribute ", "pa ")
"""What shop systems put before an attribute's name (``pa_color``, ``product_color``)."""


def option_field(name: str) -> str | None:
    """The item field an option's name stands for, or ``None``."""
    field = OPTION_FIELDS.get(name)
    if field is None:
        folded = fold(name)
        for prefix in _PREFIXES:
            if folded.startswith(prefix):
                folded = folded[len(prefix) :]
                break
        field = OPTION_FIELDS.get(folded)
    return field
