// Expressions and templates that three engines evaluate over the same values.

export const CONTEXT = {
  n: 7,
  zero: 0,
  half: 0.5,
  neg: -3,
  big: 123456,
  text: "Hello, World",
  empty: "",
  spaced: "  two  words ",
  lines: "one\ntwo\n\nthree",
  yes: true,
  no: false,
  nothing: null,
  list: [3, 1, 2],
  names: ["bob", "Alice", "carol"],
  mixed: [1, "a", true, null],
  nested: [
    [1, 2],
    [3, 4],
  ],
  none: null,
  dict: { b: 2, a: 1, c: { d: [10, 20] } },
  users: [
    { name: "Ann", age: 30, tags: ["x", "y"], active: true },
    { name: "ben", age: 25, tags: [], active: false },
    { name: "Cid", age: 30, tags: ["y"], active: true },
  ],
  html: "<b>bold & 'quoted'</b>",
  url: "a b/c?d=é",
  gaps: [
    { n: 1, x: null, k: "b" },
    { n: 2, x: 3, k: "B" },
    { n: 3, x: 3, k: "a" },
  ],
};

/** Compared as values: `(…) | tojson` in the other engines. */
export const EXPRESSIONS: readonly string[] = [
  // none is a value
  ..."gaps[0].x == none;gaps[0].x is none;gaps[0].x is defined;gaps[0].x|default(5);gaps[0].x|default(5,true);1 if gaps[0].x else 2;gaps[0]['x'];gaps|selectattr('x','none')|list|length;gaps|map(attribute='x')|list;gaps|map(attribute='x',default=7)|list;gaps|map(attribute='z',default=7)|list;'%s'|format(none)|length;gaps[0].x or 4;gaps|rejectattr('x')|map(attribute='n')|list;gaps[0].get('x',1);gaps|groupby('k')|map('last')|map('length')|list;gaps|groupby('k')|map('first')|list;gaps|sort(attribute='k,n')|map(attribute='n')|list".split(
    ";",
  ),
  "'<p>a &amp; b</p>'|striptags",
  // literals
  ..."1|0|1.5|1e3|1_000|'a'|\"b\"|'it''s'|'a\\nb'|'\\u00e9'|true|false|none|True|False|None|[]|{}|[1,2,]|{'a':1}|{'a':{'b':[1]}}|(1)|(1,2)|()|(1,)|'x' 'y'".split(
    "|",
  ),
  // arithmetic
  ..."1+2|5-8|2*3|7/2|4/2|7//2|-7//2|7//-2|7%3|-7%3|7%-3|2**10|2**3**2|-2**2|2**-1|+5|-n|--n|n+half|n*zero|1+2*3|(1+2)*3|10-2-3|100/10/2|n - -1|1.5+1.5|0.1+0.2|n%2==1|-neg".split(
    "|",
  ),
  ..."'a'+'b'|'ab'*3|3*'ab'|[1]+[2]|[0]*3|'a'*0|'a'*-1|text+'!'|'n: ' ~ n|1 ~ 2|'a' ~ none_text|list + [4]"
    .replace("none_text", "'b'")
    .split("|"),
  // comparison
  ..."1<2|2<=2|3>4|3>=3|1==1.0|1!=2|'a'<'b'|'a'=='a'|'a'!='b'|[1,2]==[1,2]|[1,2]<[1,3]|{'a':1}=={'a':1}|1<2<3|1<3<2|1==1==1|true==1|false==0|none==none|'1'==1|n==7|text=='Hello, World'|'B'<'a'|1 != 1.0|list==[3,1,2]".split(
    "|",
  ),
  ..."1 in list|9 in list|9 not in list|'a' in dict|'z' in dict|'World' in text|'x' not in text|[1,2] in nested|none in mixed|true in mixed|'' in text|1 not in list".split(
    "|",
  ),
  // logic
  ..."true and false|true or false|not true|not false and true|not (true and false)|1 and 2|0 and 2|0 or 'x'|'' or 'x'|[] or 'empty'|n and text|none or 1|not none|not []|not 0|not ''|not 'a'|yes and not no|1 or 1/0|0 and 1/0".split(
    "|",
  ),
  ..."'y' if yes else 'n'|'y' if no else 'n'|1 if zero else 2 if yes else 3|(1 if yes else 2)+1|'a' if n > 5 and yes else 'b'|[] if list else 1".split(
    "|",
  ),
  // access
  ..."dict.a|dict['b']|dict.c.d[1]|dict['c']['d'][0]|list[0]|list[-1]|users[0].name|users[1]['age']|text[0]|text[-1]|nested[1][0]|dict.c.d|users[2].tags[0]|list.0|nested.1.0".split(
    "|",
  ),
  ..."list[1:]|list[:2]|list[::2]|list[::-1]|text[:5]|text[7:]|text[::-1]|text[-5:]|text[1:8:2]|list[-2:]|list[5:]|text[:0]|list[1:1]|text[-3:-1]|nested[0][::-1]|list[10:0:-1]".split(
    "|",
  ),
  // tests
  ..."n is defined|missing is defined|missing is undefined|n is number|text is string|dict is mapping|list is sequence|n is odd|n is even|zero is even|n is divisibleby 7|n is divisibleby(2)|none is none|n is none|n is not none|yes is true|no is false|yes is boolean|n is integer|half is float|n is float|'abc' is lower|'ABC' is upper|list is iterable|n is iterable|n is eq 7|n is ne 7|n is lt 8|n is gt 8|n is ge 7|n is le 6|n is equalto 7|1 is in list|9 is in(list)|not n is defined|n is not odd|n is defined and n > 3|half is number|nothing is none|'a' is sameas 'a'|dict.zz is defined|dict.zz is not defined|n is integer and n is odd|-1 is odd|text is not mapping".split(
    "|",
  ),
  // filters
  ..."neg|abs/-5|abs/neg|abs + 1/text|upper/text|lower/text|title/text|capitalize/'aBC dEF'|capitalize/text|length/list|length/dict|length/list|count/list|first/list|last/text|first/text|last/list|sort/list|sort(reverse=true)/names|sort/names|sort(case_sensitive=true)/list|sum/[]|sum/[1.5,2]|sum/list|min/list|max/names|min/names|max/list|reverse|list/text|reverse/list|join/list|join(', ')/[1,'a']|join('-')/names|join(' & ')/text|replace('l','L')/text|replace('l','L',1)/text|replace('World','')/spaced|trim/'xxaxx'|trim('x')/text|length > 5/'%s-%s'|format(1,'b')/'%d'|format(3)/'%.2f'|format(1.5)/'%05d'|format(42)/'%5s|' |format('a')/'%x'|format(255)/'%%'|format()"
    .replace("'%5s|' |", "'%5s' |")
    .split("/")
    .filter((one) => one.includes("|")),
  ..."list|unique|list;[1,2,1,3,2]|unique|list;['a','A','b']|unique|list;['a','A']|unique(case_sensitive=true)|list;users|map(attribute='name')|list;users|map(attribute='age')|sum;users|map(attribute='tags.0', default='none')|list;names|map('upper')|list;names|map('length')|list;['1','2']|map('int')|sum;users|selectattr('active')|map(attribute='name')|list;users|rejectattr('active')|map(attribute='name')|list;users|selectattr('age','eq',30)|map(attribute='name')|list;users|selectattr('age','gt',26)|list|length;list|select('odd')|list;list|reject('odd')|list;list|select('gt',1)|list;mixed|select|list;mixed|reject|list;mixed|select('string')|list;users|sort(attribute='age')|map(attribute='name')|list;users|sort(attribute='name')|map(attribute='name')|list;users|sort(attribute='age',reverse=true)|map(attribute='name')|list;users|sum(attribute='age');users|max(attribute='age');users|min(attribute='age')".split(
    ";",
  ),
  ..."missing|default('x');missing|default(none);missing|default;missing|d(1);n|default(1);empty|default('x');empty|default('x',true);none|default('x',true);zero|default(5,boolean=true);dict.zz|default('q');'3'|int;'3.7'|int;'x'|int;'x'|int(9);3.7|int;-3.7|int;'ff'|int(0,16);'0x1f'|int(base=16);'1.5'|float;'x'|float;2|float + 0.5;'x'|float(1.5);3.14159|round(2);2.5|round;3.5|round;-2.5|round;2.567|round(1,'floor');2.512|round(1,'ceil');1234|round(-2);7|round;n|string;'a'|string;dict|dictsort;dict|items|list;{'b':1,'a':2}|dictsort(by='value');{'b':1,'A':2}|dictsort;{'b':1,'a':2}|dictsort(reverse=true)".split(
    ";",
  ),
  ..."[1,2,3,4,5]|batch(2)|list;[1,2,3]|batch(2,0)|list;[1,2,3,4,5]|slice(2)|list;[1,2,3,4,5]|slice(3,'x')|list;users|groupby('age')|map(attribute='0')|list;users|groupby('age')|map('last')|map('length')|list;'a b  c'|wordcount;text|wordcount;html|striptags;url|urlencode;{'a':'b c','d':1}|urlencode;'a/b c'|urlencode;'ab'|center(6);'abc'|center(8);'one two three four'|truncate(10);'one two three four'|truncate(10,true);'one two three four'|truncate(11,false,'…');'short'|truncate(10);'abcdefghij'|truncate(5,true,'');'a\\nb'|indent;'a\\nb'|indent(2,true);'a\\n\\nb'|indent(2);'a\\n\\nb'|indent(2,false,true);'x'|list;text|list|length;html|e;html|escape;[3,1]|sort|first;list|sort|join|int;(1,2)|list;dict|list;dict|length;'a,b'|upper|lower;names|map('first')|join;names|join('')|length;[[1,2],[3]]|map('sum')|list;[true,false]|select|list|length".split(
    ";",
  ),
  // methods
  ..."text.upper();text.lower();text.split(', ');spaced.strip();spaced.split();text.replace('l','L');text.startswith('Hell');text.endswith('x');text.find('W');text.find('zz');text.count('l');', '.join(names);dict.get('a');dict.get('zz','q');dict.keys()|list;dict.values()|list;dict.items()|list;list.count(1);list.index(2);'a-b-c'.split('-',1);'abc'.isalpha();'12'.isdigit();'7'.zfill(3);lines.splitlines();'xxaxx'.strip('x');'  a'.lstrip();'a  '.rstrip();'hello world'.title();'hELLO'.capitalize()".split(
    ";",
  ),
  // functions
  ..."range(3)|list;range(1,4)|list;range(10,0,-3)|list;range(0)|list;dict(a=1,b=2);range(5)|sum;range(3)|map('string')|join".split(
    ";",
  ),
  // precedence
  ..."1 + n|abs;not n is odd;-1|abs;1 < 2 and 2 < 3;'a' ~ 1 + 2;2 * 3 ~ 4;1 + 2 ~ 3;n is odd and n is number;'%s' % 'x';[1,2]|length + 1;(list|sort)[0];list|sort|first + 1;not 1 == 2;1 if 2 > 1 else 0 + 5;n|string|length;dict.a + dict.b * 2;'a' in 'abc' and 1;1 in [1] == true;n > 3 == true".split(
    ";",
  ),
  // errors
  ..."missing;missing.x;1/0;1//0;1%0;'a'+1;1+'a';[]+1;-'a';n.x.y;'a'<1;none<1;n|nosuch;n is nosuch;nosuch();1 +;(1;[1;{'a';a b;'abc;1 if;n n;foo(;1 ==;|upper;is odd;list[;.a;1..2;dict.zz;dict.zz.yy;list[99];range();'x'|int|nosuch;none.x;missing|upper;missing+1;missing or 1;not missing;missing == 1;list.nosuch();text.nosuch()".split(
    ";",
  ),
  // numbers of texts, formats, rests and halves
  "'bob'|int(-1,16)",
  "'12x'|int(-1,8)",
  "'0b12'|int(-1,2)",
  "'0x1F'|int(0,16)",
  "'-0x1f'|int(0,16)",
  "'ff'|int(0,16)",
  "'-11'|int(0,2)",
  "''|int(-1,2)",
  "'1_0'|int(0,2)",
  "'%05d' % -3",
  "'%+05d' % 3",
  "'%d %d' % (1, 2)",
  "'%s %s' % (1,)",
  "'%s' % (1, 2)",
  "'%y' % 1",
  "'%o' % 8 if false else 1",
  "'100%' % ()",
  "'%(a)s' % {'a': 1, 'b': 2}",
  "1 % 0.1 > 0.09",
  "1 // 0.1",
  "-7 % 3",
  "7 %-3",
  "-7 // 3",
  "7.5 // 2",
  "5 % 5",
  "0 **-1",
  "2 **-1",
  "2.675|round(2)",
  "0.125|round(2)",
  "0.375|round(2)",
  "1.005|round(2)",
  "-2.675|round(2)",
  "2.5|round",
  "1234567.125|round(2)",
  "1250|round(-2)",
  "'ab'|center(5)",
  "'abc'|center(8)",
  "'abc'|center(6)",
  "'abc'.count('')",
  "'ab'.replace('', 'x')",
  "'ab'|replace('', '-')",
  "[1,2,3]|slice(3,'y')|list",
  "[1,2,3,4]|slice(3,'y')|list",
];

export const TEMPLATES: readonly string[] = [
  "plain",
  "",
  "line\n",
  "line\n\n",
  "{{ n }}",
  "a{{ n }}b{{ text }}c",
  "{{n}}",
  "{# comment #}x",
  "a{# multi\nline #}b",
  "{{ '{{' }}",
  "{% raw %}{{ n }}{% endraw %}",
  "{%- raw -%}  x  {%- endraw -%}  y",
  "a {{- n -}} b",
  "a {{ n -}}   b",
  "a\n  {%- if yes %} x {%- endif %}\n b",
  "{% if yes %}A{% else %}B{% endif %}",
  "{% if no %}A{% elif n > 3 %}B{% else %}C{% endif %}",
  "{% if no %}A{% endif %}",
  "{% if list %}{{ list|length }}{% endif %}",
  "{% for i in list %}{{ i }},{% endfor %}",
  "{% for i in [] %}x{% else %}none{% endfor %}",
  "{% for i in list %}{{ loop.index }}/{{ loop.length }}{% if not loop.last %}, {% endif %}{% endfor %}",
  "{% for i in list %}{{ loop.index0 }}{{ loop.revindex }}{{ loop.revindex0 }}{{ loop.first }}{% endfor %}".replace(
    "{{ loop.first }}",
    "{% if loop.first %}F{% endif %}",
  ),
  "{% for u in users if u.active %}{{ u.name }};{% endfor %}",
  "{% for k, v in dict|dictsort %}{{ k }};{% endfor %}",
  "{% for a, b in nested %}{{ a }}-{{ b }} {% endfor %}",
  "{% for k in dict %}{{ k }}{% endfor %}",
  "{% for row in nested %}{% for c in row %}{{ c }}{% endfor %}|{% endfor %}",
  "{% for row in nested %}{% set x = loop.index %}{% for c in row %}{{ x }}{{ loop.index }} {% endfor %}{% endfor %}",
  "{% for i in list %}{{ loop.previtem|default('-') }}{{ i }}{{ loop.nextitem|default('-') }} {% endfor %}",
  "{% for c in 'abc' %}{{ c }}.{% endfor %}",
  "{% for i in range(3) %}{{ i }}{% endfor %}",
  "{% set x = 5 %}{{ x + 1 }}",
  "{% set a, b = 1, 2 %}{{ a }}{{ b }}",
  "{% set x %}block {{ n }}{% endset %}[{{ x }}]",
  "{% set x | upper %}abc{% endset %}{{ x }}",
  "{% set x = 1 %}{% for i in list %}{% set x = i %}{% endfor %}{{ x }}",
  "{% set ns = namespace(total=0) %}{% for i in list %}{% set ns.total = ns.total + i %}{% endfor %}{{ ns.total }}",
  "{% if yes %}{% set x = 2 %}{% endif %}{{ x }}",
  "{% with a = 1, b = 2 %}{{ a + b }}{% endwith %}",
  "{% with %}{% set q = 3 %}{{ q }}{% endwith %}",
  "{% filter upper %}abc {{ n }}{% endfilter %}",
  "{% filter upper|replace('A','_') %}abca{% endfilter %}",
  "{{ users|map(attribute='name')|join(', ') }}",
  "{% for age, group in users|groupby('age') %}{{ age }}:{{ group|map(attribute='name')|join('/') }} {% endfor %}",
  "Dear {{ users[0].name }},\n\n{% for t in users[0].tags %}* {{ t }}\n{% endfor %}Bye",
  "{%- for i in list -%}\n  {{ i }}\n{%- endfor -%}",
  "{{ text\n  | upper\n  | replace('L', 'l') }}",
  "{{ '}}' }}",
  "{{ {'a': 1}['a'] }}",
  "{{ {'a': {'b': 2}}.a.b }}",
  "{%if yes%}x{%endif%}",
  "{%+ if yes %}x{% endif %}",
  "{ n } {x} %} }} #}",
  "{{ 'a' if yes }}",
  "x{{ '' if no else 'y' }}",
  "{{ list|first }}{{ list|last }}",
  "{% if missing is defined %}a{% else %}b{% endif %}",
  "{{ missing|default('fallback') }}",
  "{% if 'Wor' in text and n == 7 %}ok{% endif %}",
  "é ü 日本 {{ url }}",
  // errors
  "{{ missing }}",
  "{{ n",
  "{% if yes %}",
  "{% endif %}",
  "{% for %}{% endfor %}",
  "{% for i in 5 %}{% endfor %}",
  "{% nosuch %}",
  "{# never closed",
  "{% raw %} never closed",
  "{{ }}",
  "{% set %}",
  "{% for a, b in list %}{% endfor %}",
  "{% if yes %}{% for i in list %}{% endif %}{% endfor %}",
  "{% else %}",
  "{{ n }",
];
