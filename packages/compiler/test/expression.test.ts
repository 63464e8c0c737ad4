import { spawnSync } from "node:child_process";
import { join } from "node:path";
import * as fc from "fast-check";
import { Environment } from "minijinja-js";
import { describe, expect, test } from "vitest";
import {
  DICT_METHODS,
  ExpressionError,
  FILTERS,
  FUNCTIONS,
  LIST_METHODS,
  TESTS,
  TEXT_METHODS,
  evaluate,
  evaluateCondition,
  objectScope,
  parseExpression,
  parseTemplate,
  referencesOf,
  renderTemplate,
  templateReferences,
} from "@ergos/compiler/expression";
import { CONTEXT, EXPRESSIONS, TEMPLATES } from "./differential-cases.ts";

type Outcome = { readonly value: unknown } | { readonly error: string };

const scope = objectScope(CONTEXT);
const run = (text: string, fields: Record<string, unknown> = CONTEXT): unknown =>
  evaluate(parseExpression(text), objectScope(fields));
const render = (text: string, fields: Record<string, unknown> = CONTEXT): string =>
  renderTemplate(parseTemplate(text), objectScope(fields));

function outcome(work: () => unknown): Outcome {
  try {
    return { value: JSON.parse(JSON.stringify(work())) as unknown };
  } catch (error) {
    return { error: String(error) };
  }
}

const ours = {
  expressions: EXPRESSIONS.map((text) => outcome(() => evaluate(parseExpression(text), scope))),
  templates: TEMPLATES.map((text) => outcome(() => renderTemplate(parseTemplate(text), scope))),
};

/** Cases whose outcome differs, and the reason that accepts each. */
function differences(
  others: readonly Outcome[],
  cases: readonly string[],
  mine: readonly Outcome[],
): readonly string[] {
  return cases.filter((_text, at) => {
    const [a, b] = [mine[at], others[at]];
    if (a === undefined || b === undefined) return true;
    return !("error" in a && "error" in b) && JSON.stringify(a) !== JSON.stringify(b);
  });
}

describe("the language is Jinja's", () => {
  const python = ["/usr/bin/python3", "python3"].find((one) => spawnSync(one, ["-c", "import jinja2"]).status === 0);

  test.skipIf(python === undefined)("as Jinja2 evaluates it (Debian's python3-jinja2)", () => {
    const input = JSON.stringify({ context: CONTEXT, expressions: EXPRESSIONS, templates: TEMPLATES });
    const oracle = spawnSync(python ?? "", [join(import.meta.dirname, "jinja2-oracle.py")], {
      input,
      encoding: "utf8",
    });
    // Printed by the oracle, in the order of the cases.
    const theirs = JSON.parse(oracle.stdout) as { expressions: Outcome[]; templates: Outcome[] };

    expect(EXPRESSIONS.length + TEMPLATES.length).toBeGreaterThan(500);
    // `dict` is a value in this context, and still a function of ours.
    expect(differences(theirs.expressions, EXPRESSIONS, ours.expressions)).toEqual(["dict(a=1,b=2)"]);
    expect(differences(theirs.templates, TEMPLATES, ours.templates)).toEqual([]);
  });

  /** What minijinja does in another way than Jinja2; where they differ we follow Jinja2. */
  const MINIJINJA: readonly (readonly [RegExp, string])[] = [
    [/\.\w+\(/, "has no methods of Python's types"],
    [/\|\s*(format|wordcount|urlencode|center|truncate|e|escape)\b/, "lacks the filter, or escapes more"],
    [
      /\|\s*(int|float|default|round|replace|sum|min|max|indent)\b/,
      "takes fewer arguments, and refuses what is no number",
    ],
    [/missing|dict\.zz|list\[99\]|none\.x/, "an undefined value has a text and no strictness here"],
    [/\/\/|%-|\*\*-|\*-1|^\+|1\/0/, "rounds towards zero, and has no unary plus"],
    [/1<3<2|== true|<1$/, "compares pairwise, and orders all types"],
    [/^0 and/, "gives a boolean where Jinja2 gives the operand"],
    [/\.\d|:-1|reverse=true/, "other syntax for positions, other order of equals"],
    [/\bdict\b/, "sorts keys, and cannot call `dict`"],
    [/set a, b/, "assigns one name"],
    [/' % /, "has no formatting by %"],
    [/in \[1\] ==|> 3 ==/, "compares pairwise"],
    [/groupby\('k'\)\|map\('first'\)|attribute='k,n'/, "keeps another spelling of a group, and sorts by one attribute"],
  ];

  test("as minijinja evaluates it, but for known differences", () => {
    const engine = new Environment();
    engine.undefinedBehavior = "strict";
    const expressions = EXPRESSIONS.map((text) =>
      outcome(() => JSON.parse(engine.renderStr(`{{ (${text}) | tojson }}`, CONTEXT)) as unknown),
    );
    const templates = TEMPLATES.map((text) => outcome(() => engine.renderStr(text, CONTEXT)));
    const known = (text: string): boolean => MINIJINJA.some(([pattern]) => pattern.test(text));

    const differing = [
      ...differences(expressions, EXPRESSIONS, ours.expressions),
      ...differences(templates, TEMPLATES, ours.templates),
    ];
    expect(differing.filter((text) => !known(text))).toEqual([]);
    expect(differing.length).toBeLessThan(140);
  });
});

describe("values", () => {
  test("texts of values are JSON, with none for null", () => {
    expect(render("{{ list }} {{ dict }} {{ yes }} {{ nothing }} {{ half }}")).toBe(
      '[3, 1, 2] {"b": 2, "a": 1, "c": {"d": [10, 20]}} true none 0.5',
    );
  });

  test("none is a value of every kind of field", () => {
    const fields = { input: { a: null } };
    expect(run("input.a == none", fields)).toBe(true);
    expect(run("input.a | attr('b') is defined", fields)).toBe(false);
    expect(run("{'x': none} | attr('x') is none", fields)).toBe(true);
    expect(run("namespace(a=none).a is none", fields)).toBe(true);
    expect(run("dict([['a', none], ['b', 2]])", fields)).toEqual({ a: null, b: 2 });
    expect(run("dict({'a': 1}, b=2)", fields)).toEqual({ a: 1, b: 2 });
    expect(() => run("dict([1])", fields)).toThrow(ExpressionError);
    expect(() => run("dict(1, 2)", fields)).toThrow("one list of pairs");
  });

  test("nothing of the evaluator's own goes out", () => {
    const missing = "[{'b': 2}, {}] | map(attribute='b')";
    expect(() => run(`${missing} | list`, {})).toThrow("there is no field b");
    expect(() => run(`{'deep': [${missing} | list]}`, {})).toThrow("there is no field b");
    expect(() => run("[{'b': 2}, {}] | join(',', attribute='b')", {})).toThrow("there is no field b");
    expect(() => run("namespace(a=1)", {})).toThrow("it is no value");
    expect(run(`${missing} | select('defined') | list`, {})).toEqual([2]);
    expect(run("1.1 | round(400)", {})).toBe(1.1);
  });

  test("an undefined name is refused where it is used, with the nearest name", () => {
    expect(() => run("usres|length")).toThrow(
      expect.objectContaining({
        code: "X002",
        message: "usres is not defined",
        hint: 'did you mean "users"?',
        start: 0,
        end: 5,
      }),
    );
    expect(() => run("users[0].nmae")).not.toThrow(TypeError);
    expect(() => run("users[0].nmae")).toThrow(expect.objectContaining({ hint: 'did you mean "name"?' }));
    expect(run("missing.deep.path | default('x')")).toBe("x");
    expect(run("missing.deep is defined")).toBe(false);
  });

  test("prototypes, constructors and host objects are out of reach", () => {
    const fields = {
      ...CONTEXT,
      host: new Date(0),
      map: new Map([["a", 1]]),
      fn: () => 1,
      child: Object.create({ secret: 1 }) as unknown,
    };
    for (const text of [
      "dict.constructor",
      "dict.__proto__",
      "text.constructor",
      "list.constructor.constructor",
      "dict['__proto__']",
      "fn()",
      "fn.call",
      "host.getTime()",
      "map.get('a')",
      "child.secret",
      "text.__class__",
      "list.__class__.__mro__",
      "''.constructor('return 1')()",
      "namespace.constructor",
      "users|map(attribute='constructor')|list|first",
      "users|map(attribute='__proto__')|list|first",
      "dict|attr('constructor')",
      "host ~ ''",
    ])
      expect(() => run(text, fields), text).toThrow(ExpressionError);
    expect(run("{'__proto__': 1}['__proto__']")).toBe(1);
  });

  test("a condition over a large input copies nothing", () => {
    const items = Array.from({ length: 10_000 }, (_, at) => ({ at }));
    const frozen = Object.freeze(items.map((item) => Object.freeze(item)));
    expect(
      evaluateCondition(
        parseExpression("items[9999].at == 9999 and items|length == 10000"),
        objectScope({ items: frozen }),
      ),
    ).toBe(true);
  });
});

describe("bounds", () => {
  const bounded = (text: string): unknown => {
    try {
      return render(text);
    } catch (error) {
      return error instanceof ExpressionError ? error.code : error;
    }
  };

  test("nothing runs away", () => {
    expect(bounded("{% for a in range(10000) %}{% for b in range(10000) %}{% endfor %}{% endfor %}")).toBe("X005");
    expect(bounded("{{ 'x' * 1000000000 }}")).toBe("X005");
    expect(bounded("{{ range(1000000000) }}")).toBe("X005");
    expect(bounded("{{ [[0] * 10000] * 10000 }}")).toBe("X005");
    expect(bounded("{{ 'a'|center(999999999) }}")).toBe("X005");
    expect(bounded("{{ '1'.zfill(999999999) }}")).toBe("X005");
    expect(
      bounded("{% set x = 'aaaaaaaaaa' %}{% for i in range(40) %}{% set x = x ~ x %}{% endfor %}"),
    ).not.toBeInstanceOf(RangeError);
    expect(
      bounded(
        "{% set ns = namespace(x='aaaaaaaaaa') %}{% for i in range(40) %}{% set ns.x = ns.x ~ ns.x %}{% endfor %}",
      ),
    ).toBe("X005");
    expect(bounded(`{{ ${"(".repeat(10_000)}1${")".repeat(10_000)} }}`)).toBe("X005");
    expect(bounded(`{{ ${"not ".repeat(10_000)}1 }}`)).toBe("X005");
    expect(bounded(`{{ ${"-".repeat(10_000)}1 }}`)).toBe("X005");
    expect(bounded(`{{ ${"1 + ".repeat(10_000)}1 }}`)).toBe("X005");
    expect(bounded(`{{ n${".a".repeat(10_000)} }}`)).toBe("X005");
    expect(bounded(`{{ n${"|abs".repeat(10_000)} }}`)).toBe("X005");
    expect(bounded(`{{ ${"[".repeat(10_000)}${"]".repeat(10_000)} }}`)).toBe("X005");
    expect(bounded(`{{ ${"{'a':".repeat(10_000)}1${"}".repeat(10_000)} }}`)).toBe("X005");
    expect(bounded(`{{ ${"1 if 1 else ".repeat(10_000)}1 }}`)).toBe("X005");
    expect(bounded("{% if n %}".repeat(10_000))).toBe("X005");
    expect(bounded(`{{ ${"1 or ".repeat(1500)}1 }}`)).toBe("1");
  });

  test("work over large values is charged, whatever does it", () => {
    const fields = {
      s: "a".repeat(8_000_000),
      l: Array.from({ length: 1_000_000 }, (_, at) => at),
      big: Array<string>(20_000).fill("x".repeat(100_000)),
      d: Object.fromEntries(Array.from({ length: 20_000 }, (_, at) => [`k${at}`, 1])),
    };
    const code = (text: string): unknown => {
      try {
        return render(text, fields).length;
      } catch (error) {
        return error instanceof ExpressionError ? error.code : error;
      }
    };
    const loop = (inner: string): string => `{% for i in range(100000) %}${inner}{% endfor %}`;
    const started = performance.now();

    for (const text of [
      loop("{{ 'b' in s }}"),
      loop("{{ s[0] }}"),
      loop("{{ l == l[:] }}"),
      loop("{{ max(l) }}"),
      "{{ [l] | select('in', [l[:], l[1:]]) | list | length }}{{ l | select('in', l) | list }}",
      "{{ big | sort | length }}",
      "{% set ns = namespace(a=[1]) %}{% for i in range(40) %}{% set ns.a = [ns.a, ns.a] %}{% endfor %}{{ ns.a | string | length }}",
      "{% set x = namespace(a=[1], b=[1]) %}{% for i in range(40) %}{% set x.a = [x.a, x.a] %}{% set x.b = [x.b, x.b] %}{% endfor %}{{ x.a == x.b }}",
      "{{ (['x' * 1000000] * 5000) | map('upper') | map('lower') | list | length }}",
      "{{ ('%s' * 1000) % (['x' * 1000000] * 1000) }}",
      loop("{{ d.abcdefgh | default(1) }}{{ l | length }}"),
    ])
      expect(["X005", "number"]).toContain(typeof code(text) === "number" ? "number" : code(text));
    for (const text of [
      "{{ '<' * 100000 | striptags }}",
      "{{ ('1' * 50000 ~ 'x') | int }}",
      "{{ ('a ' * 40000) | wordwrap(10000000) | length }}",
      "{{ [] * 300000000 }}",
      "{{ [] * 100000000000 }}",
      "{{ s | striptags | length }}",
    ])
      expect(code(text)).not.toBeInstanceOf(Error);
    expect(performance.now() - started).toBeLessThan(25_000);
  });

  test("what the language underneath refuses is a fault of the expression", () => {
    for (const text of [
      "'%.0g' % 1",
      "'\\ud800' | urlencode",
      "[{}] | map(attribute={'toString': 1, 'valueOf': 1}) | list",
    ]) {
      try {
        run(text);
      } catch (error) {
        expect(error).toBeInstanceOf(ExpressionError);
      }
    }
    expect(() => run("'%(__proto__)s' % {}")).toThrow(ExpressionError);
    expect(() => run("'%(constructor)s' % {}")).toThrow(ExpressionError);
    expect(() => render("{% set ns = namespace(a=1) %}{{ ns | attr('fields') }}")).toThrow(ExpressionError);
    expect(() =>
      render("{% set loop = {'depth': {'toString': 1}} %}{% for x in [1] %}{{ loop.depth }}{% endfor %}"),
    ).not.toThrow();
  });

  const TOKENS = [
    ..."( ) [ ] { } , : . | + - * / // % ** ~ == != < > <= >= = and or not in is if else for endfor endif set {{ }} {% %} {# #} raw endraw n text list dict users missing 1 2.5 'a' \"b\" loop range map select join default upper length none true -".split(
      " ",
    ),
    " ",
    "\n",
  ];

  test("whatever is written, the outcome is a value or a diagnostic", () => {
    const parts = fc.array(fc.constantFrom(...TOKENS), { maxLength: 25 }).map((list) => list.join(" "));
    fc.assert(
      fc.property(
        fc.oneof(
          parts,
          fc.string({ maxLength: 60 }),
          parts.map((text) => `{{ ${text} }}`),
          parts.map((text) => `{% ${text} %}`),
        ),
        (text) => {
          for (const work of [
            () => run(text),
            () => render(text),
            () => referencesOf(parseExpression(text)),
            () => templateReferences(parseTemplate(text)),
          ]) {
            try {
              work();
            } catch (error) {
              if (!(error instanceof ExpressionError)) throw error;
              expect(error.start).toBeGreaterThanOrEqual(0);
              expect(error.end).toBeGreaterThanOrEqual(error.start);
            }
          }
        },
      ),
      { numRuns: 4000 },
    );
  });

  test("every builtin answers any input with a value or a diagnostic", () => {
    const names = [
      ...Object.keys(FILTERS).map((name) => (args: string) => `x | ${name}${args}`),
      ...Object.keys(FUNCTIONS).map((name) => (args: string) => `${name}${args}`),
      ...Object.keys(TESTS).map((name) => (args: string) => `x is ${name}${args}`),
      ...Object.keys({ ...TEXT_METHODS, ...LIST_METHODS, ...DICT_METHODS }).map(
        (name) => (args: string) => `x.${name}${args}`,
      ),
    ];
    const argument = fc.constantFrom(
      "1",
      "-1",
      "0",
      "''",
      "'a'",
      "[1, 'b']",
      "{}",
      "none",
      "missing",
      "2.5",
      "x",
      "1e308",
      "'%s%d'",
    );
    const value = fc.oneof(fc.jsonValue(), fc.constantFrom(null, [], {}, "", "Text", -1, [[1]], [{ a: 1 }]));
    fc.assert(
      fc.property(fc.constantFrom(...names), fc.array(argument, { maxLength: 3 }), value, (make, args, x) => {
        try {
          evaluate(parseExpression(make(`(${args.join(", ")})`)), objectScope({ x }), {
            sizeMax: 100_000,
            stepsMax: 10_000,
          });
        } catch (error) {
          if (!(error instanceof ExpressionError)) throw error;
        }
      }),
      { numRuns: 6000 },
    );
  });
});

describe("references", () => {
  const names = (text: string): readonly string[] =>
    referencesOf(parseExpression(text)).map(
      ({ name, path, optional }) => [name, ...path].join(".") + (optional ? "?" : ""),
    );

  test("are the paths that an expression reads", () => {
    expect(names("a.b[0]['c'] + d.e|default(f) if g is defined else h[i].j")).toEqual([
      "g?",
      "a.b.0.c",
      "d.e?",
      "f",
      "h",
      "i",
    ]);
    expect(names("range(n)|map('upper')|join(sep)")).toEqual(["n", "sep"]);
    expect(names("text.upper()")).toEqual(["text"]);
  });

  test("of a template leave out what it binds itself", () => {
    const text =
      "{% for a, b in rows %}{{ a }}{{ outer }}{{ loop.index }}{% endfor %}{% set x = y %}{{ x }}{% with q = z %}{{ q }}{% endwith %}{{ a }}";
    expect(templateReferences(parseTemplate(text)).map(({ name }) => name)).toEqual(["rows", "outer", "y", "z", "a"]);
  });
});

test.each(["2024-01-05", "007", "1.2.3", "10.0.0.1"])("%s is no number, and says what it wants", (text) => {
  expect(() => parseExpression(text)).toThrow(/is no number/);
});

test("numbers of items may follow each other", () => {
  expect(evaluate(parseExpression("a.0.1.2"), objectScope({ a: [[0, [1, 2, 9]]] }))).toBe(9);
  expect(evaluate(parseExpression("2026 - 11 - 12"), objectScope({}))).toBe(2003);
  expect(() => parseExpression("2026-11-12")).toThrow(/is no number/);
});
