"""Rows for people, and for the programs that people pipe them into."""

from __future__ import annotations

__all__ = ["print_rows"]

from collections.abc import Mapping, Sequence

import typer


def print_rows(
    columns: Sequence[str],
    rows: Sequence[Sequence[str]],
    styles: Sequence[str | None],
    *,
    foldable: Mapping[str, int],
    notes: str | None = None,
) -> None:
    """Print rows: as a table in a terminal, separated by tabs elsewhere; no
    rows are not printed at all.

    Parameters
    ----------
    columns : sequence of `str`
        Headings.
    rows : sequence of sequence of `str`
        The cells of each row.
    styles : sequence of `str` or `None`
        How each row looks in a terminal, in words of rich.
    foldable : mapping [`str`, `int`]
        Columns that give way where the terminal is narrow, by going over
        several lines, and how many characters wide they stay.
    notes : `str`, optional
        The column that a terminal shows below the table, a line for each row
        that has it, after the row's first cell.
    """
    from rich.box import SIMPLE_HEAD
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    console = Console()
    if not rows:
        return
    if not console.is_terminal:
        for row in (columns, *rows):
            typer.echo("\t".join(row))
        return
    table = Table(box=SIMPLE_HEAD, padding=(0, 1, 0, 0))
    shown = [number for number, column in enumerate(columns) if column != notes]
    for number in shown:
        column = columns[number]
        gives_way = column in foldable
        width = foldable[column] if gives_way else max(len(column), *(len(row[number]) for row in rows))
        table.add_column(column, no_wrap=not gives_way, overflow="fold", min_width=width)
    for row, style in zip(rows, styles, strict=True):
        table.add_row(*(Text(row[number]) for number in shown), style=style)
    console.print(table)
    if notes is not None:
        at = columns.index(notes)
        for row in rows:
            if row[at]:
                console.print(f"{row[0]}: {row[at]}", markup=False, highlight=False)
