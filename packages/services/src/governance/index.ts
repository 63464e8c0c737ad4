// `@ergos/services/governance`: policies over users, roles, attributes and relations.

import type { PolicyDocument } from "@ergos/compiler";
import { evaluate, evaluateCondition, objectScope, parseExpression } from "@ergos/compiler/expression";
import {
  Capability,
  type Effect,
  type Governance,
  type GovernanceRequest,
  type GovernanceVerdict,
  type Grant,
  describe,
  parseGrants,
} from "@ergos/kernel";
import { Relations } from "./relations.ts";

export { Relations } from "./relations.ts";

/** Says yes to everything: the rights of processes alone decide. */
export const allowAll: Governance = {
  name: "allow-all",
  authorize: () => ({ effect: "allow", reason: "nothing is governed" }),
  permissions: () => ["*"],
};

/** Says no to everything: what a policy that cannot be read means. */
export const denyAll = (reason: string): Governance => ({
  name: "deny-all",
  authorize: () => ({ effect: "deny", reason }),
  permissions: () => [],
});

interface BoundRule {
  readonly effect: Effect;
  readonly isAbout: (request: GovernanceRequest) => boolean;
  readonly holds: (request: GovernanceRequest) => boolean;
  readonly reason: string;
}

const scopeOf = (request: GovernanceRequest): ReturnType<typeof objectScope> =>
  objectScope({
    user: request.user,
    right: request.right,
    resource: request.resource,
    call: request.call,
    args: request.args ?? {},
    group: request.group ?? "",
    process: request.process,
    hour: new Date(request.at).getUTCHours(),
  });

/** What a rule is about. Conditions of what it refuses or asks for are read as those of a denial: one hit is enough. */
function aboutOf(effect: Effect, text: string): BoundRule["isAbout"] {
  const grants = parseGrants([text]).map((grant): Grant => ({ ...grant, effect }));
  const about = Capability.of(effect === "allow" ? grants : [...parseGrants(["*"]), ...grants]);
  return ({ right, resource, args }) => {
    const decided = about.decide(right, resource, args).effect;
    return effect === "allow" ? decided !== "deny" : decided === effect;
  };
}

/** The governance of a policy: roles, rules and relations, in one decision. */
export function governPolicy(policy: PolicyDocument): Governance {
  const roles = new Map(
    Object.entries(policy.roles).map(([name, grants]) => [name, Capability.of(parseGrants(grants))]),
  );
  const relations = new Relations(policy.tuples, policy.rewrites);
  const rules: readonly BoundRule[] = policy.rules.map(({ effect, grant, when, reason }) => {
    const tree = when === undefined ? undefined : parseExpression(when);
    return {
      effect,
      isAbout: aboutOf(effect, grant),
      holds: (request) => tree === undefined || evaluateCondition(tree, scopeOf(request)),
      reason: reason ?? `${effect} ${grant}${when === undefined ? "" : ` when ${when}`}`,
    };
  });
  const checks = policy.checks.map(({ grant, object, relation }) => ({
    about: Capability.of(parseGrants([grant])),
    object: parseExpression(object),
    relation,
  }));
  const rolesOf = (user: string): readonly string[] => [
    ...(Object.hasOwn(policy.users, user) ? (policy.users[user] ?? []) : []),
    ...(policy.users["*"] ?? []),
  ];

  const decide = (request: GovernanceRequest): GovernanceVerdict => {
    const { user, right, resource, args } = request;
    const matching = rules.filter((rule) => rule.isAbout(request) && rule.holds(request));
    const strictest =
      matching.find(({ effect }) => effect === "deny") ?? matching.find(({ effect }) => effect === "ask");
    if (strictest !== undefined) return strictest;
    const allowing = matching.find(({ effect }) => effect === "allow");
    if (allowing !== undefined) return allowing;
    const role = rolesOf(user).find((name) => roles.get(name)?.decide(right, resource, args).effect === "allow");
    if (role !== undefined) return { effect: "allow", reason: `${user} is ${role}` };
    const related = checks.find(
      (check) =>
        check.about.decide(right, resource, args).effect !== "deny" &&
        relations.has(user, check.relation, String(evaluate(check.object, scopeOf(request)))),
    );
    if (related !== undefined) return { effect: "allow", reason: `${user} is ${related.relation}` };
    return {
      effect: policy.otherwise,
      reason: `it says nothing of ${right}:${resource} for ${user}`,
    };
  };

  return {
    name: policy.name,
    authorize: (request) => {
      try {
        return decide(request);
      } catch (error) {
        // A condition that cannot be evaluated has not allowed anything.
        return { effect: "deny", reason: `it cannot be evaluated: ${describe(error)}` };
      }
    },
    permissions: (user) => [
      ...rolesOf(user).flatMap((role) => (policy.roles[role] ?? []).map((grant) => `${grant} (${role})`)),
      ...policy.rules.map(
        ({ effect, grant, when }) => `${effect} ${grant}${when === undefined ? "" : ` when ${when}`}`,
      ),
    ],
  };
}
