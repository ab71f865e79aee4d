"""`aldis accounts`."""

import secrets
import sys
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.table import Table

from aldis.cli.shared import call, config_option, read_settings
from aldis.model.money import parse_credits

_PASSWORD_BYTES = 12


@click.group()
def accounts() -> None:
    """Add, list, top up and change customers' accounts, whether or not the server runs."""


@accounts.command()
@click.argument("name")
@click.option("--password-stdin", is_flag=True, help="Read the password from standard input; else one is made.")
@click.option("--credits", "credit", default="0", metavar="N", help="Opening credits, such as 1000 or 12.5.")
@click.option("--push-url", default="", metavar="URL", help="Where status reports are pushed to.")
@config_option
def add(name: str, password_stdin: bool, credit: str, push_url: str, config: Path | None) -> None:
    """Create an account; a password that was made is printed once."""
    password = _read_password() if password_stdin else secrets.token_urlsafe(_PASSWORD_BYTES)
    settings = read_settings(config)
    call(
        settings,
        "accounts.add",
        username=name,
        password=password,
        credits_milli=parse_credits(credit),
        push_url=push_url,
    )
    click.echo(f"account {name} added")
    if not password_stdin:
        click.echo(f"password: {password}   (shown only now)")


@accounts.command("list")
@config_option
def list_(config: Path | None) -> None:
    """List all accounts."""
    table = Table("account", "credits", "daily quota", "push URL", "settings")
    for row in call(read_settings(config), "accounts.list"):
        quota = "" if row["daily_quota"] is None else str(row["daily_quota"])
        table.add_row(row["username"], row["credits"], quota, row["push_url"].partition("?")[0], _oddities(row))
    Console().print(table)


@accounts.command()
@click.argument("name")
@click.argument("credit", metavar="CREDITS")
@click.option("--note", default="", help="Why, for the books.")
@config_option
def topup(name: str, credit: str, note: str, config: Path | None) -> None:
    """Give an account CREDITS; a negative number takes some (put -- before it)."""
    row = call(read_settings(config), "accounts.top_up", username=name, credits_milli=parse_credits(credit), note=note)
    click.echo(f"account {name} has {row['credits']} credits")


@accounts.command("set")
@click.argument("name")
@click.option("--password-stdin", is_flag=True, help="Read a new password from standard input.")
@click.option("--push-url", metavar="URL", help="Where status reports go; empty for nowhere.")
@click.option("--daily-quota", metavar="N", help="Messages a UTC day; 'none' for no limit.")
@click.option("--report-header", metavar="WORD", help="returns, results, or empty for the server's setting.")
@click.option("--show-transient/--hide-transient", default=None, help="Whether get_report shows codes 40 and 60-64.")
@click.option("--strict-latin1/--detect-utf8", default=None, help="Whether every body is read as ISO-8859-1.")
@click.option("--accept-empty-push/--refuse-empty-push", default=None, help="Whether an empty 200 takes a push.")
@click.option("--disable/--enable", "disabled", default=None, help="Whether the account may do anything.")
@config_option
def set_(name: str, password_stdin: bool, config: Path | None, daily_quota: str | None, **options: Any) -> None:
    """Change an account."""
    changes = {key: value for key, value in options.items() if value is not None}
    if daily_quota is not None:
        if daily_quota != "none" and not daily_quota.isdecimal():
            raise click.UsageError(f"--daily-quota {daily_quota}: a number or none is wanted")
        changes["daily_quota"] = None if daily_quota == "none" else int(daily_quota)
    if password_stdin:
        changes["password"] = _read_password()
    if not changes:
        raise click.UsageError("nothing to change: see `aldis accounts set --help`")
    call(read_settings(config), "accounts.set", username=name, changes=changes)
    click.echo(f"account {name} changed")


def _read_password() -> str:
    password = sys.stdin.readline().rstrip("\n")
    if not password:
        raise click.UsageError("no password on standard input")
    return password


def _oddities(row: dict[str, Any]) -> str:
    words = []
    if row["disabled"]:
        words.append("disabled")
    if row["report_header"]:
        words.append(f"header {row['report_header']}")
    if not row["show_transient"]:
        words.append("hides transient codes")
    if row["strict_latin1"]:
        words.append("strict Latin-1")
    if row["accept_empty_push"]:
        words.append("accepts empty pushes")
    return ", ".join(words)
