// `@ergos/drivers/governance-cedar`: policies over users in Cedar, by the package `@cedar-policy/cedar-wasm`.
//
// R1  A call is `User::"<user>"`, `Action::"<right>"`, `Resource::"<resource>"`. A right is in those that it begins with
//     (`Action::"fs"` holds `fs.read`), a path in the directories above it. The context holds the call, the process, the
//     group, the hour and the arguments.
// R2  `@ask("…")` on a permit: a person decides, unless another policy permits it without. `@reason("…")` is what
//     whoever was refused is told.
// R3  What cannot be decided is denied: a forbid that cannot be evaluated has forbidden.

import type * as CedarModule from "@cedar-policy/cedar-wasm/nodejs";
import { type Governance, type GovernanceRequest, type GovernanceVerdict, KernelError, describe } from "@ergos/kernel";

type Cedar = Pick<
  typeof CedarModule,
  "policySetTextToParts" | "policyToJson" | "preparsePolicySet" | "statefulIsAuthorized"
>;
type Entities = Parameters<Cedar["statefulIsAuthorized"]>[0]["entities"];
type Value = Parameters<Cedar["statefulIsAuthorized"]>[0]["context"][string];

export interface CedarOptions {
  readonly name: string;
  /** The text of the policies. */
  readonly policies: string;
  /** Users and what they belong to, as Cedar has entities in JSON. */
  readonly entities?: unknown;
}

interface Known {
  readonly effect: "permit" | "forbid";
  readonly title: string;
  readonly asks: boolean;
  readonly reason: string | undefined;
}

const DEPTH_MAX = 8;

/**
 * Makes a governance of Cedar's policies.
 * @throws {ENOTSUP} the package is not installed · {EINVAL} the policies, or the entities, cannot be read
 */
export async function createCedarGovernance({ name, policies, entities }: CedarOptions): Promise<Governance> {
  const cedar = await load();
  const parts = cedar.policySetTextToParts(policies);
  if (parts.type === "failure") throw unreadable(name, policies, parts.errors);
  if (parts.policy_templates.length > 0)
    throw new KernelError("EINVAL", `${name} holds templates, which nobody links; write policies`);
  const known = new Map(parts.policies.map((text, at) => [`policy ${at + 1}`, describePolicy(cedar, text, at)]));
  const texts = Object.fromEntries(Array.from(known.keys(), (id, at) => [id, parts.policies[at] ?? ""]));
  // One instance of the package holds the policies of all hosts of this process.
  const id = `ergos ${crypto.randomUUID()}`;
  const prepared = cedar.preparsePolicySet(id, { staticPolicies: texts });
  if (prepared.type === "failure") throw unreadable(name, policies, prepared.errors);
  const users = entitiesOf(name, entities);
  const decide = (request: GovernanceRequest): GovernanceVerdict => {
    const { user, right, resource } = request;
    const answer = cedar.statefulIsAuthorized({
      principal: { type: "User", id: user },
      action: { type: "Action", id: right },
      resource: { type: "Resource", id: resource },
      context: contextOf(request),
      preparsedPolicySetId: id,
      validateRequest: false,
      entities: [...users, actionOf(right), resourceOf(resource)],
    });
    if (answer.type === "failure")
      return {
        effect: "deny",
        reason: `it cannot be decided: ${answer.errors.map(({ message }) => message).join("; ")}`,
      };
    const { decision, diagnostics } = answer.response;
    const broken = diagnostics.errors.find(({ policyId }) => known.get(policyId)?.effect !== "permit");
    if (broken !== undefined)
      return {
        effect: "deny",
        reason: `${known.get(broken.policyId)?.title ?? broken.policyId} cannot be evaluated: ${broken.error.message}`,
      };
    const decided = diagnostics.reason.flatMap((one) => known.get(one) ?? []);
    const reason = decided.map((one) => one.reason ?? one.title).join("; ");
    if (decision === "deny")
      return { effect: "deny", reason: reason === "" ? `it says nothing of ${right}:${resource} for ${user}` : reason };
    return { effect: decided.every(({ asks }) => asks) ? "ask" : "allow", reason };
  };
  return {
    name,
    authorize: (request) => {
      try {
        return decide(request);
      } catch (error) {
        return { effect: "deny", reason: `it cannot be decided: ${describe(error)}` };
      }
    },
    permissions: () =>
      Array.from(known.values(), ({ effect, title, asks, reason }) =>
        [asks ? "ask" : effect, title, ...(reason === undefined ? [] : [reason])].join(": "),
      ),
  };
}

async function load(): Promise<Cedar> {
  try {
    return await import("@cedar-policy/cedar-wasm/nodejs");
  } catch (cause) {
    throw new KernelError(
      "ENOTSUP",
      "policies in Cedar need the package @cedar-policy/cedar-wasm; install it beside ergos",
      {
        cause,
      },
    );
  }
}

function describePolicy(cedar: Cedar, text: string, at: number): Known {
  const told = cedar.policyToJson(text);
  // It was read as a part of the whole before.
  if (told.type === "failure") return { effect: "forbid", title: `policy ${at + 1}`, asks: false, reason: undefined };
  const { effect, annotations = {} } = told.json;
  const { id, ask, reason } = annotations as Readonly<Record<string, string | null>>;
  return {
    effect,
    title: id ?? `policy ${at + 1}`,
    asks: effect === "permit" && ask !== undefined,
    reason: reason ?? (ask === null || ask === "" ? undefined : ask),
  };
}

/** A right, in those that it begins with. */
function actionOf(right: string): Entities[number] {
  const parts = right.split(".");
  const parents = parts.slice(1).map((_, at) => ({ type: "Action", id: parts.slice(0, at + 1).join(".") }));
  return { uid: { type: "Action", id: right }, attrs: {}, parents };
}

/** A resource; a path is in the directories above it. */
function resourceOf(resource: string): Entities[number] {
  const names = resource.startsWith("/") ? resource.split("/").slice(1, -1) : [];
  const above = names.map((_, at) => `/${names.slice(0, at + 1).join("/")}`);
  const parents = (resource.startsWith("/") && resource !== "/" ? ["/", ...above] : []).map((id) => ({
    type: "Resource",
    id,
  }));
  return { uid: { type: "Resource", id: resource }, attrs: {}, parents };
}

function contextOf({ call, process, pid, group, resource, at, args }: GovernanceRequest): Record<string, Value> {
  return {
    call,
    process,
    pid,
    resource,
    hour: new Date(at).getUTCHours(),
    args: valueOf(args, 0) ?? {},
    ...(group === undefined ? {} : { group }),
  };
}

/** What Cedar has of a value: whole numbers, texts, truth, sets and records. What it has not is left out. */
function valueOf(value: unknown, depth: number): Value | undefined {
  if (typeof value === "string" || typeof value === "boolean") return value;
  if (typeof value === "number") return Number.isSafeInteger(value) ? value : String(value);
  if (value instanceof Uint8Array) return value.length;
  if (typeof value !== "object" || value === null || depth >= DEPTH_MAX) return undefined;
  if (Array.isArray(value)) return value.flatMap((item) => valueOf(item, depth + 1) ?? []);
  return Object.fromEntries(
    Object.entries(value).flatMap(([name, inner]: [string, unknown]) => {
      // Names that Cedar gives a meaning of its own: nobody names an entity by an argument.
      const plain = name.startsWith("__") ? undefined : valueOf(inner, depth + 1);
      return plain === undefined ? [] : [[name, plain]];
    }),
  );
}

function entitiesOf(name: string, entities: unknown): Entities {
  if (entities === undefined) return [];
  const isList =
    Array.isArray(entities) &&
    entities.every((one: unknown) => typeof one === "object" && one !== null && "uid" in one);
  if (!isList) throw new KernelError("EINVAL", `the entities of ${name} are no list of { uid, attrs, parents }`);
  // Cedar looks at the rest of each when it decides.
  return entities as Entities;
}

/** What is wrong with policies, with its place in their text. */
function unreadable(
  name: string,
  text: string,
  errors: readonly {
    readonly message: string;
    readonly sourceLocations?: readonly { readonly start: number; readonly label: string | null }[];
  }[],
): KernelError {
  const [first] = errors;
  const [at] = first?.sourceLocations ?? [];
  const before = text.slice(0, at?.start ?? 0).split("\n");
  const place = at === undefined ? "" : `:${before.length}:${(before.at(-1)?.length ?? 0) + 1}`;
  const expected = at?.label === null || at?.label === undefined ? "" : `, ${at.label}`;
  return new KernelError("EINVAL", `${name}${place}: ${first?.message ?? "it cannot be read"}${expected}`);
}
