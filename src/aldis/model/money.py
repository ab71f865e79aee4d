"""Money: integer milli-credits, so that sums are exact."""

from decimal import ROUND_HALF_EVEN, Decimal, InvalidOperation

MILLI = 1000
_STEP = Decimal("0.001")
_LIMIT_MILLI = 1 << 63


def parse_credits(text: str) -> int:
    """Return milli-credits for a decimal number of credits such as `12.5`.

    Raises:
        ValueError: not a number, finer than a milli-credit, or more than 64 bits hold.
    """
    try:
        given = Decimal(text)
        rounded = given.quantize(_STEP)  # refuses more than 28 digits, and infinity
        too_many = abs(rounded * MILLI) >= _LIMIT_MILLI
    except InvalidOperation:
        raise ValueError(f"{text!r} is not a number of credits") from None
    if too_many:
        raise ValueError(f"{text!r} is more credits than a ledger can hold")
    if rounded != given:
        raise ValueError(f"{text!r} is finer than a thousandth of a credit")
    return int(rounded * MILLI)


def format_credits(milli: int) -> str:
    """Return credits with two decimals, as get_credits and get_report show them; half a cent goes to the even one."""
    return str((Decimal(milli) / MILLI).quantize(Decimal("0.01"), ROUND_HALF_EVEN))
