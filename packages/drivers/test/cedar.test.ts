// Policies in Cedar, as the kernel asks them.

import { createCedarGovernance } from "@ergos/drivers/governance-cedar";
import { type Governance, type GovernanceRequest } from "@ergos/kernel";
import { describe, expect, test } from "vitest";
import { bootKernel, processWith } from "../../kernel/test/kernel-fixture.ts";

const POLICIES = `
permit(principal in Group::"team", action in Action::"fs", resource in Resource::"/srv");
@id("models") permit(principal == User::"jane", action == Action::"model.infer", resource) when { context.args.request.maxOutputTokens <= 100 };
@ask("somebody looks at it") permit(principal == User::"jane", action == Action::"tool.call", resource);
@reason("archives stay as they are") forbid(principal, action == Action::"fs.write", resource in Resource::"/srv/archive");
@id("night") forbid(principal == User::"joe", action, resource) unless { context.hour > 6 && context.args.nothing == 1 };
`;
const ENTITIES = [{ uid: { type: "User", id: "jane" }, attrs: {}, parents: [{ type: "Group", id: "team" }] }];
const made: Promise<Governance> = createCedarGovernance({
  name: "policy.cedar",
  policies: POLICIES,
  entities: ENTITIES,
});
const ask = async (more: Partial<GovernanceRequest>) => {
  const request = {
    user: "jane",
    pid: 2,
    process: "x",
    call: "read",
    right: "fs.read",
    resource: "/srv/a",
    args: {},
    at: 0,
  };
  return (await made).authorize({ ...request, ...more });
};

describe("a policy in Cedar", () => {
  test("permits by user, group, right and directory, and says nothing of anything else", async () => {
    expect(await ask({})).toMatchObject({ effect: "allow" });
    expect(await ask({ resource: "/srv" })).toMatchObject({ effect: "allow" });
    expect(await ask({ resource: "/srvx/a" })).toEqual({
      effect: "deny",
      reason: "it says nothing of fs.read:/srvx/a for jane",
    });
    expect(await ask({ right: "fsx.read" })).toMatchObject({ effect: "deny" });
    expect(await ask({ user: "mary" })).toMatchObject({ effect: "deny" });
    expect(await ask({ right: "fs.write", resource: "/srv/archive/2020" })).toEqual({
      effect: "deny",
      reason: "archives stay as they are",
    });
  });

  test("looks at arguments, lets a person decide, and forbids what it cannot evaluate", async () => {
    const infer = (maxOutputTokens: unknown) =>
      ask({ right: "model.infer", resource: "m", args: { request: { maxOutputTokens }, bytes: new Uint8Array(3) } });
    expect(await infer(100)).toEqual({ effect: "allow", reason: "models" });
    expect(await infer(101)).toMatchObject({ effect: "deny" });
    expect(await infer(undefined)).toMatchObject({ effect: "deny" });
    expect(await infer({ __entity: { type: "User", id: "jane" } })).toMatchObject({ effect: "deny" });
    expect(await ask({ right: "tool.call", resource: "search" })).toEqual({
      effect: "ask",
      reason: "somebody looks at it",
    });
    const joe = await ask({ user: "joe", at: 12 * 3_600_000 });
    expect(joe).toMatchObject({
      effect: "deny",
      reason: expect.stringContaining("night cannot be evaluated") as unknown,
    });
  });

  test("says where it cannot be read", async () => {
    const of = (policies: string, entities?: unknown) => createCedarGovernance({ name: "p.cedar", policies, entities });
    await expect(of("permit(principal, action, resource);\npermit(principal, actio")).rejects.toThrow(
      /EINVAL.*p\.cedar:2:24: unexpected end of input/,
    );
    await expect(of("permit(principal, action, resource);", { uid: 1 })).rejects.toThrow(/no list/);
    await expect(of("permit(principal == ?principal, action, resource);")).rejects.toThrow(/templates/);
  });

  test("governs a host beside the rights of processes", async () => {
    const kernel = await bootKernel({ governance: await made });
    await kernel.os.fs.writeFile("/srv/a", "1");
    const pid = (await processWith(kernel, ["fs.*"])).pid;
    const process = kernel.host.processes.get(pid);
    if (process !== undefined) process.identity = { ...process.identity, user: "jane" };
    const os = kernel.osOf(pid);
    expect(await os.fs.readText("/srv/a")).toBe("1");
    await expect(os.fs.writeFile("/srv/archive/a", "1")).rejects.toThrow(/archives stay as they are/);
    expect((await kernel.os.call("policy", { user: "jane" })).permissions).toContain(
      "forbid: policy 4: archives stay as they are",
    );
    await kernel.close();
  });
});
