"""Which settings are read: one that is accepted and that nothing reads would change keys, and no result."""

from dataclasses import fields, replace
from functools import cache
from typing import Literal, get_args, get_origin, get_type_hints


@cache
def _noting_class(kind):
    class Noting(kind):
        def __getattribute__(self, name):
            super().__getattribute__("__dict__").get("names read", set()).add(name)
            return super().__getattribute__(name)

    return Noting


def noting(settings, read):
    """The same settings, which add to the set `read` the name of each that is asked for."""
    copy = object.__new__(_noting_class(type(settings)))
    vars(copy).update(vars(settings) | {"names read": read})
    return copy


def noting_first(function, read):
    """`function`, whose first argument is settings, as one that notes which of them it reads."""
    return lambda settings, *others: function(noting(settings, read), *others)


def noting_orders(engine, read):
    """An engine that notes which settings of its recipes it reads."""
    return lambda site, orders: engine(
        site, [replace(order, recipe=noting(order.recipe, read)) for order in orders]
    )


def choices(kind, *left_out):
    """The names of the settings of a class that have more than one value, but for those `left_out`."""
    hints = get_type_hints(kind)
    return {
        field.name
        for field in fields(kind)
        if field.name not in left_out
        and not (get_origin(hints[field.name]) is Literal and len(get_args(hints[field.name])) == 1)
    }
