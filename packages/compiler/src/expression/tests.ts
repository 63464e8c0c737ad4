// Tests: `value is name(args)`.

import { type Builtins, builtin } from "./builtin.ts";
import { ExpressionError } from "./error.ts";
import { Undefined, asNumber, compare, contains, defined, isDict, isEqual, typeName } from "./value.ts";

type Kind = (value: unknown) => boolean;

const isA = (doc: string, test: Kind): Builtins[string] =>
  builtin("", doc, (input) => !(input instanceof Undefined) && test(input));
const ordered = (doc: string, test: (order: number) => boolean): Builtins[string] =>
  builtin("other", doc, (input, a) => test(compare(defined(input, a.at), a.value("other"), a.at)));

const even = (rest: number): Builtins[string] =>
  builtin("", rest === 0 ? "a number that 2 divides" : "a number that 2 does not divide", (input, a) => {
    const number = asNumber(defined(input, a.at));
    if (number === undefined) throw new ExpressionError("X003", `${typeName(input)} is neither even nor odd`, a.at);
    return Math.abs(number % 2) === rest;
  });

const equal = builtin("other", "equal to another", (input, a) => isEqual(defined(input, a.at), a.value("other"), a.at));
const different = builtin(
  "other",
  "not equal to another",
  (input, a) => !isEqual(defined(input, a.at), a.value("other"), a.at),
);
const less = ordered("less than another", (order) => order < 0);
const greater = ordered("greater than another", (order) => order > 0);
const atMost = ordered("at most another", (order) => order <= 0);
const atLeast = ordered("at least another", (order) => order >= 0);
const inside = builtin("container", "an item of a list, a key of a dict, a part of a text", (input, a) =>
  contains(a.value("container"), defined(input, a.at), a.at),
);

export const TESTS: Builtins = {
  "!=": different,
  "<": less,
  "<=": atMost,
  "==": equal,
  ">": greater,
  ">=": atLeast,
  boolean: isA("true or false", (value) => typeof value === "boolean"),
  callable: isA("a function; values never are", () => false),
  defined: builtin("", "there is such a value", (input) => !(input instanceof Undefined) && input !== undefined),
  divisibleby: builtin("number", "divided by a number without a rest", (input, a) => {
    const number = asNumber(defined(input, a.at));
    const by = a.number("number");
    if (number === undefined || by === 0)
      throw new ExpressionError("X007", `${typeName(input)} cannot be divided by ${by}`, a.at);
    return number % by === 0;
  }),
  eq: equal,
  equalto: equal,
  even: even(0),
  false: isA("false itself", (value) => value === false),
  float: isA("a number that is not whole", (value) => typeof value === "number" && !Number.isInteger(value)),
  ge: atLeast,
  greaterthan: greater,
  gt: greater,
  in: inside,
  integer: isA("a whole number", (value) => typeof value === "number" && Number.isInteger(value)),
  iterable: isA(
    "a list, a dict or a text",
    (value) => typeof value === "string" || Array.isArray(value) || isDict(value),
  ),
  le: atMost,
  lessthan: less,
  lower: isA(
    "a text in small letters",
    (value) => typeof value === "string" && value !== value.toUpperCase() && value === value.toLowerCase(),
  ),
  lt: less,
  mapping: isA("a dict", isDict),
  ne: different,
  none: isA("none itself", (value) => value === null),
  number: isA("a number", (value) => typeof value === "number" || typeof value === "boolean"),
  odd: even(1),
  sameas: builtin("other", "the very same value", (input, a) => defined(input, a.at) === a.value("other")),
  sequence: isA(
    "a list, a dict or a text",
    (value) => typeof value === "string" || Array.isArray(value) || isDict(value),
  ),
  string: isA("a text", (value) => typeof value === "string"),
  true: isA("true itself", (value) => value === true),
  undefined: builtin("", "there is no such value", (input) => input instanceof Undefined || input === undefined),
  upper: isA(
    "a text in large letters",
    (value) => typeof value === "string" && value !== value.toLowerCase() && value === value.toUpperCase(),
  ),
};
