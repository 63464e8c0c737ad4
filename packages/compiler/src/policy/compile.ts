// `kind: Policy`: who may do what, as data.

import { type Grant, isKernelError, parseGrants, plainMessage } from "@ergos/kernel";
import { type Diagnostic, Diagnostics, SourceFile } from "../diagnostic.ts";
import type { CompilerHost } from "../host.ts";
import { ExpressionCompiler, type NameScope } from "../pipeline/expressions.ts";
import { Checker } from "../schema/check.ts";
import { readSource } from "../source/reader.ts";
import { type SourceMap, type SourceValue, get, kindName, placeOf, textOf } from "../source/value.ts";

interface PolicyRule {
  readonly effect: "allow" | "ask" | "deny";
  /** Right and resource, as in a grant. */
  readonly grant: string;
  readonly when?: string;
  readonly reason?: string;
}

/** Who is in a relation to the object of a call may make it. */
interface RelationCheck {
  readonly grant: string;
  /** An expression that names the object, from `right`, `resource`, `args`. */
  readonly object: string;
  readonly relation: string;
}

export interface PolicyDocument {
  readonly name: string;
  readonly otherwise: "allow" | "deny";
  readonly roles: Readonly<Record<string, readonly string[]>>;
  readonly users: Readonly<Record<string, readonly string[]>>;
  readonly rules: readonly PolicyRule[];
  readonly tuples: readonly string[];
  /** What a relation follows from: other relations of the object, or `from.relation` of what it is in `from` to. */
  readonly rewrites: Readonly<Record<string, readonly string[]>>;
  readonly checks: readonly RelationCheck[];
}

/** A tuple: `object#relation@user`, or `object#relation@object#relation` for all who are in that. */
export const TUPLE = /^([^#@\s]+)#([\w-]+)@([^#@\s]+)(?:#([\w-]+))?$/;

export interface PolicyCompilation {
  readonly policy?: PolicyDocument;
  readonly diagnostics: readonly Diagnostic[];
}

/** Compiles a policy. */
export function compilePolicy(
  text: string,
  options: { readonly file: string; readonly host: CompilerHost },
): PolicyCompilation {
  const diagnostics = new Diagnostics();
  const file = new SourceFile(options.file, text);
  const documents = readSource(file, options.host, diagnostics);
  const [source] = documents;
  if (!diagnostics.hasErrors && (documents.length !== 1 || source === undefined))
    diagnostics.report(
      "E201",
      { file, start: 0, end: 0, path: "" },
      `a policy file holds one document, found ${documents.length}`,
    );
  if (source === undefined || diagnostics.hasErrors) return { diagnostics: diagnostics.sorted };
  const policy = source.kind === "map" ? readPolicy(source, diagnostics) : undefined;
  if (source.kind !== "map")
    diagnostics.report("E201", placeOf(source, ""), `expected a policy, found ${kindName(source)}`);
  return { ...(policy === undefined || diagnostics.hasErrors ? {} : { policy }), diagnostics: diagnostics.sorted };
}

/** Checks a policy of a file, and reads it. */
export function readPolicy(source: SourceMap, diagnostics: Diagnostics): PolicyDocument | undefined {
  new Checker(diagnostics).object(source, "policy", "");
  return toPolicy(source, diagnostics);
}

function toPolicy(source: SourceMap, diagnostics: Diagnostics): PolicyDocument | undefined {
  const spec = get(source, "spec");
  const metadata = get(source, "metadata");
  if (spec?.kind !== "map" || metadata?.kind !== "map") return undefined;
  const roles = textLists(get(spec, "roles"), "spec.roles", diagnostics, true);
  const users = textLists(get(spec, "users"), "spec.users", diagnostics, false);
  for (const [user, held] of Object.entries(users)) {
    const unknown = held.find((role) => !Object.hasOwn(roles, role));
    if (unknown !== undefined)
      diagnostics.report(
        "E205",
        placeOf(get(spec, "users") ?? spec, `spec.users.${user}`),
        `there is no role ${JSON.stringify(unknown)}`,
        `roles are ${Object.keys(roles).join(", ") || "not given"}`,
      );
  }
  const relations = get(spec, "relations");
  const inside = relations?.kind === "map" ? relations : undefined;
  const tuples = texts(inside === undefined ? undefined : get(inside, "tuples"));
  for (const { text, at } of tuples)
    if (!TUPLE.test(text))
      diagnostics.report(
        "E205",
        placeOf(at, "spec.relations.tuples"),
        `${JSON.stringify(text)} is no tuple`,
        "as in doc:/srv/a#viewer@jane, or doc:/srv/a#viewer@team:eng#member",
      );
  return {
    name: textOf(get(metadata, "name")) ?? "",
    otherwise: textOf(get(spec, "default")) === "allow" ? "allow" : "deny",
    roles,
    users,
    rules: maps(get(spec, "rules")).flatMap((rule, at) => ruleOf(rule, `spec.rules[${at}]`, diagnostics) ?? []),
    tuples: tuples.map(({ text }) => text),
    rewrites: textLists(
      inside === undefined ? undefined : get(inside, "rewrites"),
      "spec.relations.rewrites",
      diagnostics,
      false,
    ),
    checks: maps(inside === undefined ? undefined : get(inside, "checks")).flatMap(
      (check, at) => checkOf(check, `spec.relations.checks[${at}]`, diagnostics) ?? [],
    ),
  };
}

function ruleOf(source: SourceMap, path: string, diagnostics: Diagnostics): PolicyRule | undefined {
  const effect = textOf(get(source, "effect"));
  const grant = checkedGrant(get(source, "grant"), `${path}.grant`, diagnostics);
  const when = checkedExpression(get(source, "when"), `${path}.when`, diagnostics);
  const reason = textOf(get(source, "reason"));
  if (grant === undefined || (effect !== "allow" && effect !== "ask" && effect !== "deny")) return undefined;
  return { effect, grant, ...(when === undefined ? {} : { when }), ...(reason === undefined ? {} : { reason }) };
}

function checkOf(source: SourceMap, path: string, diagnostics: Diagnostics): RelationCheck | undefined {
  const grant = checkedGrant(get(source, "grant"), `${path}.grant`, diagnostics);
  const object = checkedExpression(get(source, "object"), `${path}.object`, diagnostics);
  const relation = textOf(get(source, "relation"));
  return grant === undefined || object === undefined || relation === undefined
    ? undefined
    : { grant, object, relation };
}

/** A role may leave something out of what it gives. */
const isDenial = ({ effect, expires, uses }: Grant): boolean =>
  effect === "deny" && expires === undefined && uses === undefined;
/** A grant that says more than what it is about. */
const isLimited = ({ effect, expires, uses }: Grant): boolean =>
  effect !== "allow" || expires !== undefined || uses !== undefined;

function checkedGrant(
  value: SourceValue | undefined,
  path: string,
  diagnostics: Diagnostics,
  isRole = false,
): string | undefined {
  const text = textOf(value);
  if (value === undefined || text === undefined) return undefined;
  try {
    const limited = parseGrants([text]).find((grant) => isLimited(grant) && !(isRole && isDenial(grant)));
    if (limited === undefined) return text;
    diagnostics.report(
      "E602",
      placeOf(value, path),
      `${JSON.stringify(text)} has an effect, an end or a number of uses of its own`,
      "a rule says by `effect` and `when` what becomes of a right and a resource",
    );
    return undefined;
  } catch (error) {
    if (!isKernelError(error)) throw error;
    diagnostics.report("E602", placeOf(value, path), plainMessage(error.message));
    return undefined;
  }
}

/** What the conditions and objects of a policy may name. */
const REQUEST = ["user", "call", "right", "resource", "args", "process", "group", "hour"] as const;
const requestScope = (): NameScope => ({
  locals: new Map(REQUEST.map((name) => [name, {}])),
  nodes: new Map(),
  needs: new Set(),
});

const checkedExpression = (
  value: SourceValue | undefined,
  path: string,
  diagnostics: Diagnostics,
): string | undefined => new ExpressionCompiler(diagnostics).expression(value, requestScope(), path);

const maps = (value: SourceValue | undefined): readonly SourceMap[] =>
  value?.kind === "list" ? value.items.flatMap((item) => (item.kind === "map" ? [item] : [])) : [];

const texts = (value: SourceValue | undefined): readonly { readonly text: string; readonly at: SourceValue }[] =>
  (value?.kind === "list" ? value.items : value === undefined ? [] : [value]).flatMap((at) => {
    const text = textOf(at);
    return text === undefined ? [] : [{ text, at }];
  });

function textLists(
  value: SourceValue | undefined,
  path: string,
  diagnostics: Diagnostics,
  isGrants: boolean,
): Readonly<Record<string, readonly string[]>> {
  if (value?.kind !== "map") return {};
  return Object.fromEntries(
    Array.from(value.entries.values(), ({ key, value: list }) => {
      const found = texts(list);
      if (isGrants) for (const { at } of found) checkedGrant(at, `${path}.${key}`, diagnostics, true);
      return [key, found.map(({ text }) => text)];
    }),
  );
}
