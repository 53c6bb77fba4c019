"""HTML of the list as text: what is shown apart stays apart, and what is shown as one stays one."""

import pytest

from upstream.integrations.html_text import text_of

TEXTS = {
    "plain": "plain",
    "10.0.0.1<br>10.0.0.2": "10.0.0.1|10.0.0.2",
    "a<br/>b<BR />c": "a|b|c",
    "<ul><li>red</li><li>blue</li></ul>": "red|blue",
    "<ul><li>red<li>blue</ul>": "red|blue",
    "<ol>\n  <li>one</li>\n  <li>two <b>b</b>old</li>\n</ol>": "one|two bold",
    "<ul><li>a<ul><li>b</li></ul></li><li>c</li></ul>": "a|b|c",
    "<p>one</p><p>two</p>three": "one|two|three",
    "before<div>inside</div>after": "before|inside|after",
    "<table><tr><th>a</th><td>1</td></tr><tr><th>b</th><td>2</td></tr></table>": "a 1|b 2",
    "<dl><dt>key</dt><dd>value</dd></dl>": "key|value",
    "<b>1</b> of <b>2</b>": "1 of 2",
    "un<em>believ</em>able": "unbelievable",
    "two\nlines of <i>source</i>\n": "two lines of source",
    "a&nbsp;&amp;&lt;b&gt; &#8364;": "a &<b> \u20ac",
    '<img src="/yes.svg" alt="True"> yes': "True yes",
    '<img src="/x.png">': "",
    "a<script>if (1 < 2) alert('<br>')</script>b<style>p { color: red }</style>": "ab",
    "1 < 2 and 3 > 2": "1 < 2 and 3 > 2",
    "<br><br>a<br>": "a",
    "<!-- not seen -->seen": "seen",
    "": "",
}


@pytest.mark.parametrize("html", TEXTS)
def test_text_has_the_lines_that_a_browser_shows(html):
    assert text_of(html, line_break="|") == TEXTS[html]


def test_lines_are_lines_unless_told_otherwise():
    assert text_of("a<br>b") == "a\nb"
