"""Money: integer milli-credits, so that sums are exact."""

from decimal import ROUND_HALF_EVEN, Decimal, InvalidOperation

MILLI = 1000
_STEP = Decimal("0.001")


def parse_credits(text: str) -> int:
    """Return milli-credits for a decimal number of credits such as `12.5`.

    Raises:
        ValueError: not a number, or finer than a milli-credit.
    """
    try:
        given = Decimal(text)
        rounded = given.quantize(_STEP)  # refuses more than 28 digits, and infinity
    except InvalidOperation:
        raise ValueError(f"{text!r} is not a number of credits") from None
    if rounded != given:
        raise ValueError(f"{text!r} is finer than a thousandth of a credit")
    return int(rounded * MILLI)


def format_credits(milli: int) -> str:
    """Return credits with two decimals, as get_credits and get_report show them; half a cent goes to the even one."""
    return str((Decimal(milli) / MILLI).quantize(Decimal("0.01"), ROUND_HALF_EVEN))
