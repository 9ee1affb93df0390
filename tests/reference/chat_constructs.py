"""tests/data/chat/constructs.json: small templates, one construct of Jinja each, and what transformers renders of them.

"error" stands where transformers refuses the template. A template whose text grist refuses to make, by name, is listed
in REFUSED: the test then wants a refusal with that word instead of the text.
"""
from common import DATA, write_json

MESSAGES = [
    {"role": "system", "content": "Ünïcode ßtart\u3000"}, {"role": "user", "content": " Hello\nworld \U0001F600é "},
    {"role": "assistant", "content": "<think>\nwhy\n</think>\n\nBecause."}, {"role": "user", "content": "Ok?\t"}]
TOKENS = {"bos_token": "<s>", "eos_token": "</s>", "pad_token": "<pad>"}

WHITE_SPACE = [
    "  {% if true %}\n   a\n   {% endif %}\n b", "a\r\n{% if true %}\r\n  b\r\n{% endif %}\rc\r\n",
    "\n\n{{ 'x' }}\n\n\n", "", "\n", "   ", " {{ 'a' -}}   \n  {{- 'b' }}  ", "{#- c -#}  x  {#+ d +#}\ny",
    "  {#+ keep #}\nz", "\u00a0{%- if true %}\u2003{% endif -%}\u3000x", "x {%- if true -%} y {%- endif -%} z",
    "{% raw %}{{ a }}{% b %}{% endraw %}\n!", "  {% raw -%}  a  {%- endraw %}\n  b", "a\n  {% raw %}b{% endraw +%}\n c",
    "{% if true -%}\n\n\n  x{% endif +%}\n\ny", "\t\t{% set a = 1 %}  {% set b = 2 %}\n{{ a }}",
    "{{ 'a' }}\n  {% if true %}  {{ 'b' }}\n  {% endif %}  c",
    "{%- for m in messages %}\n  {{- m.role }}\n{% endfor %}", "{% for i in [1,2] %}{{ i }}\n\n{% endfor %}\n",
    "a{{ ' b' }}\\n\\'", "{{ 'it\\'s' }}{{ \"\\\"\\\\ \\x41\\101\\u00e9\\q\" }}"]
UNDEFINED = [
    "{{ foo.bar }}", "{{ foo['bar'] }}", "{{ foo + 'a' }}", "{{ foo ~ 'a' }}",
    "{{ foo | length }}|{{ foo | list }}|{{ foo | trim }}|{{ foo|join('x') }}",
    "{% for x in foo %}a{% else %}b{% endfor %}", "{{ foo == bar }}{{ foo == none }}{{ foo != '' }}",
    "{{ 'a' in foo }}", "{{ foo in 'abc' }}", "{{ foo in ['a'] }}", "{{ foo < 1 }}", "{{ foo() }}",
    ("{{ foo is none }}{{ foo is defined }}{{ foo is string }}{{ foo is iterable }}{{ foo is sequence }}"
     "{{ foo is mapping }}"),
    "{{ foo | int }}", "{{ foo | tojson }}", "{{ [foo] }}", "{{ not foo }}{{ foo and 1 }}{{ foo or 2 }}",
    "{{ none.x }}", "{{ none['x'] }}", "{{ none | length }}", "{% for x in none %}{% endfor %}",
    "{{ messages[9] }}{{ messages[9] is defined }}", "{{ messages[9].role }}", "{{ messages[0].foo.bar is defined }}",
    "{{ messages[0]['foo'] is defined }}{{ messages[0].foo | default('d') }}",
    "{{ (messages | selectattr('role', 'equalto', 'tool') | list | first) is defined }}",
    "{{ tools }}{{ tools is none }}{{ documents }}{{ tools | default('x') }}{{ tools or 'y' }}", "{{ foo[1:] }}",
    "{{ 1[1:] }}", "{{ -foo }}", "{{ [] | first }}{{ [] | last }}{{ [] | max }}", "{{ 5.real }}",
    "{{ 'a'.nothing is defined }}{{ {}.nothing }}", "{{ true.x }}{{ messages.role }}",
    "{{ pad_token }}{{ unk_token }}{{ sep_token is defined }}"]
OPERATORS = [
    "{{ 7 // 2 }}{{ -7 // 2 }}{{ 7 % -3 }}{{ -7 % 3 }}{{ 7.5 // 2 }}{{ -7.5 % 2 }}",
    "{{ 1 / 3 }}|{{ 4 / 2 }}|{{ 1e20 }}|{{ 1e16 }}|{{ 1e15 }}|{{ 0.0001 }}|{{ 0.00001 }}|{{ 1.0 }}",
    "{{ 2 ** 10 }}{{ 2 ** -1 }}{{ 2 ** 3 ** 2 }}{{ -2 ** 2 }}", "{{ 1 / 0 }}", "{{ 1 % 0 }}",
    "{{ true + true }}{{ true == 1 }}{{ 'a' == 1 }}{{ 1 == '1' }}", "{{ 'a' + 1 }}", "{{ 1 + 'a' }}",
    "{{ 'ab' * 3 }}{{ 3 * 'a' }}{{ [0] * 2 }}{{ 'a' * -1 }}", "{{ [1] + (2,) }}",
    "{{ (1,) + (2,) }}{{ () }}{{ (1) }}{{ (1,) }}",
    "{{ 1 < 2 < 3 }}{{ 3 > 2 > 2 }}{{ 1 == 1 != 2 }}{{ 'a' < 'b' }}{{ [1, 2] < [1, 3] }}", "{{ 1 < 'a' }}",
    "{{ 'a' not in 'abc' }}{{ 1 in [1.0] }}{{ 'k' in {'k': 1} }}{{ not 1 in [2] }}", "{{ 1 in 'abc' }}",
    "{{ 'x' if 1 > 2 else 'y' if 2 > 3 else 'z' }}", "{{ 1 if true else 2 if false else 3 }}", "{{ 1 ~ 2 + 3 }}",
    "{{ 1 + 2 ~ 3 }}", "{{ 'a' ~ 'b' * 2 }}", "{{ not true or true and false }}",
    "{{ '' or [] or {} or 0 or none or 'last' }}{{ 1 and '' }}|", "{{ 'a,b' | replace(',', ';') ~ 'x' | upper }}",
    "{{ -1 | abs }}{{ (-1) | abs }}{{ - 1 - -1 }}", "{{ 10_000 + 1 }}{{ 1_0.5_0 }}{{ 1e3 }}{{ 0 }}{{ 00 }}",
    "{{ '%s|%5d|%-5s|%05.1f|%x|%%|%+d' % ('é', 42, 'ab', 3.14159, 255, 7) }}",
    "{{ '%s' % none }}{{ '%s %s' % ('a', true) }}", "{{ '%d' % 'x' }}", "{{ '%s %s' % 'a' }}", "{{ 'a' % 'b' }}",
    "{{ '%(a)s-%(b)03d' % {'a': 1, 'b': 2} }}", "{{ {'a': 1, 'a': 2} }}{{ {1: 'x', none: 2, true: 3} }}",
    "{{ {[1]: 2} }}", "{{ [1, 'a', none, true, 1.5, [], {}, ('x', \"it's\"), 'q\"', 'q\"\\'', 'é\\n\\t\\\\'] }}",
    "{{ '\\u200b\\u00ad\\x07' | list }}", "{{ 1, 2 }}", "{{ 'a' 'b' \"c\" }}", "{{ 9223372036854775807 }}",
    "{{ +3 }}{{ +'a' }}", "{{ messages == messages }}{{ {'a': 1} == {'a': 1.0} }}{{ (1,) == [1] }}"]
TEXTS = [
    ("{{ messages[0].content[::-1] }}{{ messages[0].content[1] }}{{ messages[0].content[-2:] }}"
     "{{ messages[1].content[7:9] }}"),
    "{{ 'äöü'[5] is defined }}{{ 'abc'[-3] }}{{ 'abc'[:-1] }}{{ 'abc'[5:] }}{{ 'abcdef'[1:5:2] }}{{ 'abc'[2:0:-1] }}",
    "{{ 'ab'[::0] }}",
    ("{{ messages[2].content.split('</think>')[-1].lstrip('\\n') }}{{ messages[2].content.split('\\n', 1) }}"
     "{{ ' a  b '.split() }}{{ 'a b c'.split(none, 1) }}{{ 'a b c'.rsplit(maxsplit=1) }}"),
    "{{ 'abc'.split('') }}",
    ("{{ 'a--b--c'.rsplit('--', 1) }}{{ ''.split() }}{{ ''.split(',') }}{{ 'a,b,'.split(',') }}"
     "{{ 'x'.partition('=') }}{{ 'k=v=w'.partition('=') }}{{ 'k=v=w'.rpartition('=') }}"),
    ("{{ 'hello World foo-bar'.title() }}{{ 'hello World (foo) [bar]' | title }}{{ \"it's\" | title }}"
     "{{ \"it's\".title() }}{{ 'HELLO' | capitalize }}{{ 'éCOLE'.capitalize() }}{{ 'ǆ'.title() }}{{ 'ﬁx'.upper() }}"
     "{{ 'İI'.lower() }}{{ 'ΑΣ'.lower() }}{{ 'ß'.casefold() }}{{ 'aB'.swapcase() }}"),
    "{{ 'abcabc'.find('c') }}{{ 'abc'.find('z') }}{{ 'abcabc'.rfind('c') }}{{ 'abc'.index('z') }}",
    ("{{ 'aXbXc'.replace('X', '-') }}{{ 'aXbXc'.replace('X', '-', 1) }}{{ 'ab'.replace('', '.') }}"
     "{{ 'aXbXc' | replace('X', '-', 1) }}"),
    ("{{ 'xxaxx'.strip('x') }}{{ 'xxaxx'.lstrip('x') }}{{ 'xxaxx'.rstrip('x') }}[{{ '\\u3000\\u00a0 a\\n'.strip() }}"
     "][{{ '--a-' | trim('-') }}]{{ 'abcba'.strip('ab') }}"),
    ("{{ 'abc'.startswith('ab') }}{{ 'abc'.startswith(('x', 'b')) }}{{ 'abc'.endswith('c') }}"
     "{{ 'abc'.startswith('b', 1) }}{{ 'a'.startswith(['a']) }}"),
    "{{ 'abc'.startswith(1) }}",
    ("{{ 'ab'.center(5, '*') }}{{ 'abc'.center(6, '*') }}{{ 'ab'.ljust(4) }}|{{ 'ab'.rjust(4, '.') }}"
     "{{ '-5'.zfill(4) }}{{ 'ab' | center(6) }}|"),
    "{{ 'a\\nb\\r\\nc\\x0bd\\u2028e'.splitlines() }}{{ 'a\\n'.splitlines(true) }}{{ '\\n\\n'.splitlines() }}",
    ("{{ 'abc'.isalpha() }}{{ 'é1'.isalnum() }}{{ '½'.isnumeric() }}{{ '½'.isdigit() }}{{ '²'.isdigit() }}"
     "{{ '²'.isdecimal() }}{{ ''.isalpha() }}{{ ' '.isspace() }}{{ 'aB'.islower() }}{{ 'AB1'.isupper() }}"
     "{{ '1'.isupper() }}{{ 'é'.isascii() }}"),
    "{{ ','.join(['a', 1]) }}",
    "{{ ', '.join(messages | map(attribute='role')) }}{{ '-'.join('abc') }}{{ ','.join({'x': 1, 'y': 2}) }}",
    "{{ 'foobar'.removeprefix('foo') }}{{ 'foobar'.removesuffix('bar') }}{{ 'x'.removeprefix('y') }}",
    "{{ 'aaa'.count('aa') }}{{ 'abc'.count('') }}{{ 'éaé'.count('é') }}",
    ("{{ '{} {}'.format(1, 'b') }}{{ '{1}{0}'.format('a', 'b') }}"
     "{{ '{x:>5}|{y:<4}|{z:^5}'.format(x='a', y=2, z='é') }}"
     "{{ '{:.2f} {:,} {:05d} {:%}'.format(2.345, 1234567, 42, 0.5) }}{{ '{{}}'.format() }}{{ '{!r}'.format('a') }}"),
    "{{ '{}'.format() }}", "{{ '{0.x}'.format('a') }}", "{{ 'abc'.encode() }}", "{{ 'a'.__class__ }}",
    "{{ 'a'.expandtabs() }}",
    ("{{ 'é\\u0301' | length }}{{ '👩‍👧' | length }}{{ '你好' | reverse }}{{ 'héllo' | first }}{{ 'héllo' | last }}"
     "{{ 'hé' | list }}"),
    "{{ 'a b\\tc' | wordcount }}{{ 'x' | string | upper }}{{ 'äß' | upper | lower }}",
    ("{{ 'line1\\nline2\\n\\nline4' | indent }}|{{ 'a\\nb' | indent(2, true) }}"
     "|{{ 'a\\n\\nb' | indent('> ', blank=true) }}|{{ 'a\\n' | indent }}"),
    ("{{ 'a long sentence that is truncated here' | truncate(15) }}"
     "{{ 'abcdefghijklmnop' | truncate(8, true, '~', 0) }}{{ 'short' | truncate(4) }}"),
    "{{ 'a' | e }}{{ '<b>&\\'\"' | escape }}{{ '<b>' | safe }}", "{{ ('<b>' | safe) ~ '<' }}", "{{ 'a' | urlencode }}",
    "{{ 'x' | nothing }}", "{% if false %}{{ 'x' | nothing }}{% endif %}ok", "{{ 'x' is nothing }}",
    "{{ 'x'.format_map({}) }}"]
FILTERS = [
    ("{{ [3, 1, 2] | sort }}{{ ['b', 'A', 'c'] | sort }}{{ ['b', 'A'] | sort(case_sensitive=true) }}"
     "{{ [1, 3, 2] | sort(reverse=true) }}{{ messages | sort(attribute='role') | map(attribute='role') | list }}"),
    "{{ [1, 'a'] | sort }}",
    "{{ messages | map(attribute='content') | map('length') | list }}{{ ['a', 'B'] | map('upper') | join }}",
    "{{ messages | map('upper') }}",
    ("{{ [1, 2, 3, 4] | select('odd') | list }}{{ [1, 2, 3] | reject('odd') | list }}"
     "{{ [0, 1, '', 'a', none] | select | list }}{{ [1, 2, 3] | select('gt', 1) | list }}"
     "{{ [1, 2] | select('in', [2, 3]) | list }}"),
    ("{{ messages | selectattr('role', 'eq', 'user') | map(attribute='content') | list }}"
     "{{ messages | rejectattr('role', 'in', ['user', 'system']) | list | length }}"
     "{{ messages | selectattr('foo') | list }}{{ messages | selectattr('content', 'defined') | list | count }}"),
    "{{ messages | selectattr('role', 'eq', 'user') }}", "{{ messages | map(attribute='role') | length }}",
    "{% set it = messages | map(attribute='role') %}{{ it | list }}{{ it | list }}",
    ("{{ [1, 2, 3, 4, 5] | batch(2, 'x') | list }}{{ [1, 1, 2] | unique | list }}{{ ['a', 'A'] | unique | list }}"
     "{{ [1, 2] | sum }}{{ messages | sum(attribute='role', start='') }}"),
    ("{{ [1, 2.5] | sum }}{{ [[1], [2]] | sum(start=[]) }}{{ ['b', 'A'] | min }}{{ ['b', 'A'] | max }}"
     "{{ [{'x': 2}, {'x': 1}] | min(attribute='x') }}"),
    ("{% for role, items in messages | groupby('role') %}{{ role }}={{ items | length }};{% endfor %}"
     "{{ (messages | groupby('role'))[0].grouper }}"),
    ("{{ {'b': 1, 'a': 2} | dictsort }}{{ {'b': 1, 'a': 2} | dictsort(by='value', reverse=true) }}"
     "{{ {'b': 1} | items | list }}"),
    ("{{ '42' | int }}{{ ' 42 ' | int }}{{ '4.9' | int }}{{ 'x' | int }}{{ 'x' | int(7) }}{{ 4.9 | int }}"
     "{{ none | int }}{{ '1e3' | int }}{{ true | int }}"),
    "{{ '0x1f' | int(base=16) }}",
    "{{ '3' | float }}{{ 'x' | float }}{{ 3 | float }}{{ 'nan' | float }}{{ 'x' | float(1) }}",
    ("{{ 2.5 | round }}{{ 3.5 | round }}{{ 2.675 | round(2) }}{{ 2.1 | round(method='ceil') }}{{ 2 | round }}"
     "{{ 2.55 | round(1, 'floor') }}"),
    "{{ 'x' | abs }}", "{{ -2.5 | abs }}",
    "{{ '' | default('d') }}|{{ '' | default('d', true) }}{{ none | default('d', boolean=true) }}{{ false | d('x') }}",
    ("{{ [1, 2] | join(', ') }}{{ 'abc' | join('-') }}{{ messages | join(',', attribute='role') }}"
     "{{ [none, true] | join('|') }}"),
    "{{ [[1, 2], [3]] | map('first') | list }}{{ (1, 2) | list }}{{ {'a': 1} | list }}{{ {'a': 1} | length }}",
    "{{ 5 | list }}", "{{ 5 | length }}", "{{ [1, 2] | reverse | list }}{{ [1, 2] | reverse }}",
    "{{ '%s-%s' | format('a', 1) }}{{ '%(x)s' | format(x=3) }}",
    ("{{ messages | attr('x') }}{{ {'a': 1} | attr('a') is defined }}"
     "{{ ns | default('none') | attr('upper') is defined }}"),
    "{{ [1, 2, 3] | random }}", "{{ 1000000 | filesizeformat }}", "{{ [1, 2, 3] | slice(2) | list }}",
    "{% filter upper | replace('A', 'x') %}abc{{ 'é' }}{% endfilter %}",
    ("{{ [{'a': {'b': [7, 8]}}] | map(attribute='a.b.1') | list }}{{ [[1, 2]] | map(attribute=1) | list }}"
     "{{ [{}] | map(attribute='x', default='?') | list }}")]
JSON = [
    "{{ messages | tojson }}", "{{ messages[2] | tojson(indent=4) }}",
    "{{ {'a': [], 'b': {}, 'c': [1, [2]], 'd': (1, 2)} | tojson(indent=2) }}",
    "{{ '\\u007f\\u2028\\u0001\\b\\f\\r/\\\\\"<>&\\'' | tojson }}", "{{ 'é😀' | tojson(ensure_ascii=true) }}",
    "{{ {1: 2, none: 3, true: 4, 1.5: 5} | tojson }}",
    "{{ {'b': 1, 'a': {'d': 1, 'c': 2}} | tojson(sort_keys=true, separators=(',', ':')) }}",
    "{{ [1.0, 1e20, 0.1, 1e-7, true, none] | tojson }}", "{{ {'a': 1} | tojson(indent='\t') }}",
    "{{ [1] | tojson(indent=0) }}", "{{ range(3) | tojson }}", "{{ namespace(a=1) | tojson }}",
    "{{ ({'a': 1}).items() | list | tojson }}", "{{ 'a' | tojson | length }}", "{{ {(1, 2): 3} | tojson }}"]
MORE = [
    "{{ [1, 2, 3, 4, 5] | slice(3) | list }}{{ [1, 2] | slice(3, 'x') | list }}",
    "{{ 'a b/ü?&' | urlencode }}{{ {'a b': 1, 'c': 'd/e'} | urlencode }}{{ [('x', 'y z')] | urlencode }}",
    ("{{ 1 | filesizeformat }}{{ 999 | filesizeformat }}{{ 1500 | filesizeformat }}"
     "{{ 123456789 | filesizeformat(true) }}{{ 1e27 | filesizeformat }}"),
    "{{ '101' | int(base=2) }}{{ '-0xff' | int(base=16) }}{{ 'zz' | int(5, 16) }}{{ '0o17' | int(base=8) }}",
    "{% set j = joiner('; ') %}{% for i in [1, 2, 3] %}{{ j() }}{{ i }}{% endfor %}",
    ("{% set c = cycler('a', 'b') %}{{ c.next() }}{{ c.next() }}{{ c.next() }}{{ c.current }}{{ c.reset() }}"
     "{{ c.current }}"),
    "{% for i in [1, 1, 2, 2, 1] %}{{ loop.changed(i) }}{% endfor %}", "{{ 0xff }}{{ 0B101 }}{{ 0o777 }}",
    "{{ [1, 2] | forceescape }}", "{{ 'x' | pprint }}", "{{ '<b>x</b>' | striptags }}", "{{ cycler() }}"]
STATEMENTS = [
    ("{% for m in messages %}{{ loop.index }}{{ loop.index0 }}{{ loop.revindex }}{{ loop.revindex0 }}{{ loop.first }}"
     "{{ loop.last }}{{ loop.length }}{{ loop.depth }}{{ loop.cycle('a', 'b') }};{% endfor %}"),
    ("{% for m in messages %}{{ loop.previtem.role if not loop.first }}"
     ">{{ loop.nextitem.role if loop.nextitem is defined }};{% endfor %}"),
    ("{% for m in messages if m.role == 'user' %}{{ loop.index }}/{{ loop.length }}{% if not loop.last %},{% endif %}"
     "{% endfor %}"),
    ("{% set ns = namespace(seen=false) %}{% for m in messages if not ns.seen %}{{ m.role }}{% set ns.seen = true %}"
     "{% endfor %}"),
    ("{% set ns = namespace(seen=false) %}{% for m in messages if not ns.seen %}{{ m.role }}{{ loop.last }}"
     "{% set ns.seen = true %}{% endfor %}"),
    ("{% for i in range(10) %}{% if i is odd %}{% continue %}{% endif %}{% if i > 6 %}{% break %}{% endif %}{{ i }}"
     "{% else %}none{% endfor %}"),
    ("{% for i in [] %}x{% else %}empty{% endfor %}{% for i in 'aé' %}<{{ i }}>{% endfor %}{% for k in {'x': 1} %}"
     "{{ k }}{% endfor %}"),
    ("{% for i in [1, [2, [3]], 4] recursive %}{% if i is iterable %}({{ loop(i) }}){% else %}{{ i }}"
     "@{{ loop.depth }}{% endif %}{% endfor %}"),
    "{% for a, (b, c) in [(1, (2, 3))] %}{{ a }}{{ b }}{{ c }}{% endfor %}",
    "{% for a, b in [(1, 2, 3)] %}{% endfor %}", "{% for a, b in [1] %}{% endfor %}", "{% for i in 5 %}{% endfor %}",
    "{% for i in range(3) %}{% for j in range(2) %}{{ loop.index }}{{ i }}{% endfor %}{{ loop.index }};{% endfor %}",
    "{% for i in range(5, 0, -2) %}{{ i }}{% endfor %}{{ range(3)[1] }}{{ range(3) | length }}{{ 2 in range(3) }}",
    "{{ range(100001) }}", "{% break %}",
    ("{% set x = 1 %}{% if true %}{% set x = 2 %}{% endif %}{{ x }}{% for i in [1] %}{% set x = 3 %}{{ x }}"
     "{% endfor %}{{ x }}"),
    "{% set a, b = 1, 2 %}{{ a }}{{ b }}{% set c = 1, 2 %}{{ c }}",
    ("{% set t %}  hi {{ bos_token }} {% endset %}[{{ t }}]{{ t | length }}{% set u | upper | trim %}"
     " abc {% endset %}{{ u }}"),
    "{% set ns = namespace({'a': 1}, b=2) %}{{ ns.a }}{{ ns.b }}{{ ns.c }}{% set ns.a = ns.a + 5 %}{{ ns.a }}",
    "{% set d = {} %}{% set d.x = 1 %}", "{% set ns = namespace() %}{{ ns.items is defined }}{{ ns }}",
    "{% set true = 1 %}",
    "{% macro m(a, b=2, c=a) %}{{ a }}{{ b }}{{ c }}{% endmacro %}{{ m(1) }}{{ m(1, c=3) }}{{ m(b=1, a=2) }}{{ m() }}",
    "{% macro m(a) %}{{ varargs }}{{ kwargs }}{{ a }}{% endmacro %}{{ m(1, 2, x=3) }}",
    "{% macro m(a) %}{% endmacro %}{{ m(1, 2) }}", "{% macro m(a) %}{% endmacro %}{{ m(b=2) }}",
    "{% macro m() %}{{ x }}{% endmacro %}{% set x = 1 %}{{ m() }}",
    "{% macro m() %}{{ i }}{% endmacro %}{% for i in [1] %}{{ m() }}{% endfor %}|",
    "{% for i in [1, 2] %}{% macro m(x) %}{{ x }}{{ i }}{% endmacro %}{{ m('a') }}{% endfor %}",
    "{% macro f(n) %}{{ n * f(n - 1) | int if n > 1 else 1 }}{% endmacro %}{{ f(5) }}",
    "{% macro m() %} x {% endmacro %}{{ m() | trim }}{{ m() ~ 'y' }}{{ m is callable }}",
    ("{% macro m(xs) %}{% for x in xs %}{% if x == 2 %}{% break %}{% endif %}{{ x }}{% endfor %}{% endmacro %}"
     "{{ m([1, 2, 3]) }}"),
    ("{% macro list_it(items) %}{% for i in items %}{{ caller(i) }}{% endfor %}{% endmacro %}"
     "{% call(x) list_it([1, 2]) %}<{{ x }}>{% endcall %}"),
    "{% macro m() %}{% endmacro %}{% call m() %}x{% endcall %}",
    "{% with a = 1, b = 2 %}{{ a }}{{ b }}{% endwith %}{{ a }}",
    "{% set a = 1 %}{% with a = 2, b = a %}{{ b }}{% endwith %}",
    "{% if messages | length > 3 and messages[0].role == 'system' %}A{% elif x is defined %}B{% else %}C{% endif %}",
    "{% if not (messages[1].role == 'user') != false %}a{% endif %}b",
    "{% for m in messages %}{% generation %}{{ m.role }}{% endgeneration %}{% endfor %}",
    "{% print 'a' %}{% print 1, 2 %}", "{% do 1 %}", "{% include 'x' %}", "{% extends 'x' %}", "{% import 'x' as y %}",
    "{% if true %}", "{% endif %}", "{{ 1", "{% if %}{% endif %}", "{{ }}", "{{ 1 2 }}", "{% for %}", "{{ 'a }}",
    "{# open", "{% raw %}", "{{ a.b. }}", "{% set x %}", "{{ f(a=1, 2) }}", "{{ [1, }}", "{{ (1 }}", "{{ 1) }}",
    "{% set 1 = 2 %}", "{{ {'a' 1} }}", "{{ x is }}", "{{ x | }}", "{{ 'a' if }}", "{{ raise_exception('stop here') }}",
    "{{ messages.append(1) }}", "{% set l = [1] %}{% set _ = l.append(2) %}{{ l }}", "{{ {'a': 1}.update({'b': 2}) }}",
    ("{{ messages[0].items() | list }}{{ messages[0].keys() | list }}{{ messages[0].values() | list | length }}"
     "{{ messages[0].keys() }}"),
    "{{ messages[0].get('role') }}{{ messages[0].get('x') }}{{ messages[0].get('x', 'y') }}", "{{ {'get': 1}.get }}",
    ("{{ {'items': 1}['items'] }}{{ {'items': 1}.items is callable }}{{ {'a b': 1}['a b'] }}{{ {1: 'x'}[1.0] }}"
     "{{ {1: 2}.x }}"),
    "{{ [1, 2].index(2) }}{{ [1, 1].count(1) }}{{ [1].index(5) }}",
    "{{ messages[0] | items | list | length }}{{ dict(a=1, b=2) }}{{ dict({'x': 1}, y=2) }}",
    ("{{ (messages | first).role }}{{ messages[-1].role }}{{ messages[:2] | length }}"
     "{{ messages[1:] | map(attribute='role') | list }}{{ messages[::2] | length }}"),
    "{{ messages.0.role }}{{ (1, 2).1 }}{{ messages[true].role }}", "{{ namespace }}", "{{ lipsum() }}",
    "{{ cycler('a').next() }}", "{{ joiner() }}", "{{ self }}", "{% block x %}a{% endblock %}",
    "{% autoescape false %}a{% endautoescape %}", "{{ 0x1F + 0b11 + 0o17 }}", "{{ '\\N{BULLET}' }}", "{{ loop }}",
    "{{ 'a'|upper() ~ ('b')|upper }}{{ ('a', 'b')|join }}",
    ("{%- if messages[0]['role'] == 'system' -%}{%- set system = messages[0]['content'] -%}"
     "{%- set messages = messages[1:] -%}{%- endif -%}{{ system | trim }}|{% for m in messages %}{{ m.role }}"
     ",{% endfor %}"),
    ("{% for m in messages %}{% if (m.role == 'user') != (loop.index0 % 2 == 0) %}"
     "{{ raise_exception('roles must alternate') }}{% endif %}{% endfor %}"),
    "{{ bos_token if bos_token is defined else '' }}{{ (bos_token or '') + eos_token }}",
    ("{% for m in messages %}{{ '<|' ~ m.role ~ '|>\\n' ~ m.content | trim ~ eos_token ~ '\\n' }}"
     "{% if loop.last and add_generation_prompt %}{{ '<|assistant|>' }}{% endif %}{% endfor %}"),
    ("{{ 1 is odd }}{{ 2 is even }}{{ 9 is divisibleby 3 }}{{ 'A' is upper }}{{ 'a' is lower }}{{ 1 is number }}"
     "{{ true is number }}{{ true is integer }}{{ 1.0 is float }}{{ {} is mapping }}{{ [] is sequence }}"
     "{{ {} is sequence }}{{ 'a' is sequence }}{{ 1 is iterable }}{{ none is none }}{{ none is sameas none }}"
     "{{ 1 is eq 1 }}{{ 'a' is in 'abc' }}{{ 'x' is not in ['x'] }}{{ 1 is ne 2 }}{{ 2 is gt 1 }}"
     "{{ 'trim' is filter }}{{ 'odd' is test }}{{ 3 is lessthan 4 }}"),
    "{{ x is not defined and y is undefined }}{{ x is defined or true }}{{ (x is defined) == false }}",
    "{{ 1 is string is defined }}"]
KINDS = {
    "white space": WHITE_SPACE, "undefined": UNDEFINED, "operators": OPERATORS, "texts": TEXTS, "filters": FILTERS,
    "json": JSON, "more": MORE, "statements": STATEMENTS}

# What transformers renders and grist refuses, with the word of the refusal.
REFUSED = {
    "{{ [1, 2] | forceescape }}": "forceescape", "{{ 'x' | pprint }}": "pprint",
    "{{ '<b>x</b>' | striptags }}": "striptags", "{{ '\\N{BULLET}' }}": "\\N", "{{ ('<b>' | safe) ~ '<' }}": "safe",
    "{{ 'abc'.encode() }}": "encode", "{{ 'a'.expandtabs() }}": "expandtabs", "{% block x %}a{% endblock %}": "block",
    "{% autoescape false %}a{% endautoescape %}": "autoescape", "{{ 5.real }}": "real",
    "{{ 'x'.format_map({}) }}": "format_map", "{{ 1[1:] }}": "slice", "{{ '{0.x}'.format('a') }}": "0.x",
    "{% raw %}": "raw"}
UNSTABLE = {
    "an address or a random choice": [
        "{{ [1, 2, 3] | random }}", "{{ messages | map('upper') }}",
        "{{ messages | selectattr('role', 'eq', 'user') }}",
        "{% set ns = namespace() %}{{ ns.items is defined }}{{ ns }}", "{{ namespace }}", "{{ lipsum() }}",
        "{{ self }}", "{{ [1, 2] | reverse | list }}{{ [1, 2] | reverse }}", "{{ 'a'.__class__ }}",
        "{{ {'get': 1}.get }}", "{{ joiner() }}"]}


def render(template):
    from transformers.utils.chat_template_utils import render_jinja_template
    try:
        texts, _ = render_jinja_template(
            conversations=[MESSAGES], chat_template=template, add_generation_prompt=True, **TOKENS)
        return {"text": texts[0]}
    except Exception as error:
        return {"error": f"{type(error).__name__}: {error}"}


if __name__ == "__main__":
    unstable = [template for templates in UNSTABLE.values() for template in templates]
    cases = [
        {"kind": kind, "template": template} | ({"refused": ""} if template in unstable else render(template))
        | ({"refused": REFUSED[template]} if template in REFUSED else {})
        for kind, templates in KINDS.items() for template in templates]
    write_json(DATA / "chat/constructs.json", {"messages": MESSAGES, "special_tokens": TOKENS, "cases": cases})
