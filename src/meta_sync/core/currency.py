"""ISO 4217 facts: which currencies exist and how many decimals their minor unit has.

Source: ISO 4217 list one (active codes). Meta's own rounding rules are not here; they belong to the mapping.
"""

from __future__ import annotations

__all__ = ["CURRENCIES", "is_currency", "minor_unit_exponent"]

CURRENCIES = frozenset(
    (
        "AED AFN ALL AMD AOA ARS AUD AWG AZN BAM BBD BDT BHD BIF BMD BND BOB BRL BSD BTN BWP BYN BZD CAD CDF CHF "
        "CLP CNY COP CRC CUP CVE CZK DJF DKK DOP DZD EGP ERN ETB EUR FJD FKP GBP GEL GHS GIP GMD GNF GTQ GYD HKD "
        "HNL HTG HUF IDR ILS INR IQD IRR ISK JMD JOD JPY KES KGS KHR KMF KPW KRW KWD KYD KZT LAK LBP LKR LRD LSL "
        "LYD MAD MDL MGA MKD MMK MNT MOP MRU MUR MVR MWK MXN MYR MZN NAD NGN NIO NOK NPR NZD OMR PAB PEN PGK PHP "
        "PKR PLN PYG QAR RON RSD RUB RWF SAR SBD SCR SDG SEK SGD SHP SLE SOS SRD SSP STN SVC SYP SZL THB TJS TMT "
        "TND TOP TRY TTD TWD TZS UAH UGX USD UYU UZS VED VES VND VUV WST XAF XCD XCG XOF XPF YER ZAR ZMW ZWG"
    ).split()
)
"""Active ISO 4217 codes of money that goods are sold in."""

_EXPONENTS = {
    **dict.fromkeys("BIF CLP DJF GNF ISK JPY KMF KRW PYG RWF UGX VND VUV XAF XOF XPF".split(), 0),
    **dict.fromkeys("BHD IQD JOD KWD LYD OMR TND".split(), 3),
}


def is_currency(code: str) -> bool:
    """Whether the text is an active ISO 4217 code, in capitals."""
    return code in CURRENCIES


def minor_unit_exponent(code: str) -> int:
    """Number of decimals of the currency's minor unit: 2 for EUR, 0 for JPY, 3 for KWD.

    Raises
    ------
    KeyError
        The code is not an active currency.
    """
    if code not in CURRENCIES:
        raise KeyError(code)
    return _EXPONENTS.get(code, 2)
