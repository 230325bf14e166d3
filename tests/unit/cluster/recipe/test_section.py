from pydantic import Field

from cluster.recipe.section import Section, identity, operational


class Inner(Section):
    size: int = 1
    threads: int = operational(1)


class Outer(Section):
    inner: Inner = Inner()
    by_name: dict[str, Inner] = Field(default_factory=dict)
    listed: tuple[Inner, ...] = ()
    port: int = operational(80, ge=1)
    name: str | None = None


def test_what_is_operational_is_no_part_of_the_identity() -> None:
    outer = Outer(by_name={"a": Inner(threads=4)}, listed=(Inner(size=2),), port=90)
    assert outer.identity() == {
        "inner": {"size": 1},
        "by_name": {"a": {"size": 1}},
        "listed": [{"size": 2}],
        "name": None,
    }
    assert identity(outer) == outer.identity()
    assert identity(3) == 3
