import json

import pytest
from jinja2 import UndefinedError

from analysis.drawing.templates import templates


def test_what_a_template_is_given_is_escaped():
    template = templates().from_string('<b title="{{ name }}">{{ name }}</b>')
    assert template.render(name="\"'<&") == '<b title="&#34;&#39;&lt;&amp;">&#34;&#39;&lt;&amp;</b>'


def test_json_keeps_its_order_and_cannot_end_the_script_that_it_stands_in():
    value = {"z": "</script><!--", "a": [1, None, "猫"]}
    text = templates().from_string("{{ value|tojson }}").render(value=value)
    assert "<" not in text
    assert json.loads(text) == value
    assert list(json.loads(text)) == ["z", "a"]


def test_a_value_that_is_missing_is_an_error():
    with pytest.raises(UndefinedError, match="'name' is undefined"):
        templates().from_string("{{ name }}").render()
