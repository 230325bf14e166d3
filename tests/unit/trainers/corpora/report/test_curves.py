import re
import xml.etree.ElementTree as ElementTree

from trainers.corpora.report.curves import Curve, curves
from trainers.corpora.report.picture import STAND_INS

SHOWN = [Curve([(1, 3.0), (2, 2.0), (3, 2.5)], "kept"), Curve([(3, 2.2)], "dropped", dotted=True)]


def test_the_page_gives_the_colours() -> None:
    svg = curves(SHOWN, marks=[2])
    assert {*re.findall(r"var\(--(\w+)\)", svg)} == {*STAND_INS}
    assert not re.search("#0000[0-9a-f]{2}", svg)


def test_a_picture_is_xml_with_text_and_the_same_each_time() -> None:
    svg = curves(SHOWN)
    texts = [
        element.text for element in ElementTree.fromstring(svg).iter() if "text" in element.tag
    ]
    assert {"1", "2", "3"} <= {*texts}
    assert svg == curves(SHOWN)
