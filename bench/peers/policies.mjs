// Policy engines as they are used: casbin with a model of paths, Cedar with policies as text.

import { newEnforcer, newModel, StringAdapter } from "casbin";

const MODEL = `
[request_definition]
r = sub, obj, act
[policy_definition]
p = sub, obj, act
[policy_effect]
e = some(where (p.eft == allow))
[matchers]
m = r.sub == p.sub && keyMatch(r.obj, p.obj) && r.act == p.act
`;

/** A check of casbin over so many policies, the last of which fits. */
export async function casbin(policies) {
  const lines = Array.from({ length: policies }, (_, at) => `p, agent, /srv/${at}/*, read`);
  const enforcer = await newEnforcer(newModel(MODEL), new StringAdapter(lines.join("\n")));
  return () => enforcer.enforceSync("agent", `/srv/${policies - 1}/a`, "read");
}

/** A check of Cedar over so many policies, parsed before. */
export async function cedar(policies) {
  const cedarModule = await import("@cedar-policy/cedar-wasm/nodejs");
  const text = Array.from(
    { length: policies },
    (_, at) => `permit(principal == User::"agent", action == Action::"read", resource == Path::"/srv/${at}/a");`,
  ).join("\n");
  const call = {
    principal: { type: "User", id: "agent" },
    action: { type: "Action", id: "read" },
    resource: { type: "Path", id: `/srv/${policies - 1}/a` },
    context: {},
    policies: { staticPolicies: text },
    entities: [],
  };
  if (cedarModule.isAuthorized(call).type !== "success") throw new TypeError("Cedar could not decide");
  if (cedarModule.preparsePolicySet === undefined) return () => cedarModule.isAuthorized(call);
  cedarModule.preparsePolicySet("bench", { staticPolicies: text });
  const { policies: _text, ...rest } = call;
  const stateful = { ...rest, preparsedPolicySetId: "bench", validateRequest: false };
  return () => cedarModule.statefulIsAuthorized(stateful);
}
