"""Options of a command that are made from the fields of a settings dataclass."""

import inspect
from collections.abc import Callable, Collection, Sequence
from dataclasses import fields
from typing import Annotated, Any, get_type_hints

import typer

from text2layer.options import HELP

Described = tuple[str, Any, Any, Any]  # name, type, default (... for none) and typer's description


def options_of(
    kind: type, only: Collection[str] | None = None, without: Collection[str] = ()
) -> list[Described]:
    """One option for each field of a settings dataclass, with the field's default and doc line.

    Args:
        kind: the dataclass.
        only: names of the fields that get an option; None for all.
        without: names of fields that get none.
    """
    hints = get_type_hints(kind)
    return [
        (item.name, hints[item.name], item.default, typer.Option(help=item.metadata[HELP]))
        for item in fields(kind)
        if item.name not in without and (only is None or item.name in only)
    ]


def preset_options(presets: dict[str, Any], shown: str = "base") -> list[Described]:
    """`--preset`, and one option for each field of its settings, not given meaning as it says.

    The field `preset` names an architecture, which the preset chooses.

    Args:
        presets: settings of one dataclass by name.
        shown: the preset whose values `--help` shows.
    """
    base = presets[shown]
    text = f"Where settings not given here come from: {', '.join(presets)}."
    listed: list[Described] = [("preset", str, shown, _option(text))]
    hints = get_type_hints(type(base))
    for item in fields(base):
        if item.name != "preset":
            text = item.metadata[HELP] + _said(shown, getattr(base, item.name))
            listed.append((item.name, hints[item.name] | None, None, _option(text)))
    return listed


def takes(command: Callable[..., Any], listed: Sequence[Described], beside: bool = False) -> None:
    """Give a function the options listed, in this order, as keyword arguments.

    Args:
        command: changed in place.
        listed: its options.
        beside: the function has options of its own already; these follow.
    """
    own = inspect.signature(command).parameters.values() if beside else ()
    parameters = [item for item in own if item.kind is not inspect.Parameter.VAR_KEYWORD]
    parameters += [
        inspect.Parameter(
            name,
            inspect.Parameter.KEYWORD_ONLY,
            default=inspect.Parameter.empty if default is ... else default,
            annotation=Annotated[hint, shown],
        )
        for name, hint, default, shown in listed
    ]
    command.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    command.__annotations__ = {item.name: item.annotation for item in parameters}


def settings_of(kind: type, given: dict[str, Any]) -> Any:
    """The settings that the options given make, and `kind`'s defaults for the rest."""
    names = {item.name for item in fields(kind)}
    return kind(**{name: value for name, value in given.items() if name in names})


def _option(text: str) -> Any:
    return typer.Option(help=text, show_default=False)


def _said(preset: str, value: object) -> str:
    """How a preset's value is shown: ` [base: 8]`, ` [base: on]`, or nothing for ""."""
    if isinstance(value, bool):
        value = "on" if value else "off"
    return "" if value == "" else f" [{preset}: {value}]"
