"""What can go wrong, by who can mend it. The class decides the exit status.

    RaymillError
    ├── UserError            2   the user's to mend: arguments, data, resources asked for
    │   └── RecipeError      2   ... in a recipe: file, line, dotted key, value, remedy
    ├── InfrastructureError  3   infrastructure gave out after its retries
    └── GateRefused          4   a model was not good enough to promote

A message names the knob, its value and the remedy. The exceptions carry nothing but their message,
so they survive pickling between Ray processes.
"""


class RaymillError(Exception):
    exit_status = 3


class UserError(RaymillError):
    exit_status = 2


class RecipeError(UserError):
    """One or more problems in a recipe, a line each."""


class InfrastructureError(RaymillError):
    exit_status = 3


class GateRefused(RaymillError):
    exit_status = 4
