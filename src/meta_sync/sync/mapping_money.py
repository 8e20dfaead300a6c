"""Prices as Meta's catalog takes them. Integers only: a float would lose money on the way.

Meta's currency page lists currencies it counts in whole units although ISO 4217 gives some of them decimals; for the
others it counts two decimals, even where ISO gives three.
"""

from __future__ import annotations

from meta_sync.core.currency import minor_unit_exponent

__all__ = ["WHOLE_UNIT_CURRENCIES", "PriceFormat"]

WHOLE_UNIT_CURRENCIES = frozenset(
    ("CLP", "COP", "CRC", "HUF", "ISK", "IDR", "JPY", "KRW", "PYG", "TWD", "VND"),
)
"""Currencies with offset 1 on Meta's currency page."""


class PriceFormat:
    """How amounts of one currency are rounded and written.

    An *amount* is an integer in the units that are sent: cents for EUR, whole forints for HUF.

    Parameters
    ----------
    currency
        ISO 4217 code in capitals.

    Raises
    ------
    KeyError
        The code is not an active currency.
    """

    __slots__ = ("_divisor", "_suffix", "_whole")

    def __init__(self, currency: str) -> None:
        exponent = minor_unit_exponent(currency)
        self._whole = exponent == 0 or currency in WHOLE_UNIT_CURRENCIES
        self._divisor: int = 10 ** (exponent if self._whole else exponent - 2)
        self._suffix = f" {currency}"

    def amount(self, subunits: int) -> int:
        """The amount that is sent for a price in ISO minor units, rounded half up (prices are positive)."""
        divisor = self._divisor
        return subunits if divisor == 1 else (2 * subunits + divisor) // (2 * divisor)

    def is_exact(self, subunits: int) -> bool:
        """Whether nothing is lost by rounding."""
        return subunits % self._divisor == 0

    def text(self, amount: int) -> str:
        """The amount as Meta takes it: ``299.00 INR``, ``1000 JPY``. The amount must not be negative."""
        if self._whole:
            return f"{amount}{self._suffix}"
        return f"{amount // 100}.{amount % 100:02d}{self._suffix}"
