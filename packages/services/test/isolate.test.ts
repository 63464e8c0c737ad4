// What a node reads is its own: in a run without a journal too, where values need not be JSON.

import { pipeline, planProgram } from "@ergos/services";
import { afterEach, beforeEach, expect, test } from "vitest";
import { bootKernel } from "../../kernel/test/kernel-fixture.ts";

let kernel: Awaited<ReturnType<typeof bootKernel>>;
beforeEach(async () => {
  kernel = await bootKernel();
});
afterEach(() => kernel.close());

/** What a node gets of the value that another gives, both as they are when the run is over. */
async function handedOn(value: unknown): Promise<unknown> {
  let found: unknown;
  const plan = pipeline("two")
    .node("gives", () => value)
    .node("gets", { needs: ["gives"] }, ({ gives }) => {
      found = gives;
    })
    .build();
  await kernel.os.wait(await kernel.os.spawn(planProgram(plan), { durable: false }));
  return found;
}

test("a copy shares nothing that can be changed, keeps what is twice and what is in a circle, and leaves the rest", async () => {
  const date = new Date(0);
  const shared = { n: [1] };
  const value: Record<string, unknown> = { a: [shared, shared, "x", null, date], shared };
  value["self"] = value;
  const copy = (await handedOn(value)) as typeof value & { a: { n: number[] }[]; shared: { n: number[] } };

  expect(copy.a[0]).toEqual({ n: [1] });
  expect(copy.a[0]).not.toBe(shared);
  expect(copy.a[0]?.n).not.toBe(shared.n);
  expect(copy.a[1]).toBe(copy.a[0]);
  expect(copy.shared).toBe(copy.a[0]);
  expect(copy["self"]).toBe(copy);
  expect(copy.a[4]).toBe(date);
  expect(await handedOn(date)).toBe(date);
  expect(await handedOn(5)).toBe(5);
  expect(Object.keys((await handedOn(JSON.parse('{"__proto__":{"a":1}}'))) as object)).toEqual(["__proto__"]);
});

test("what is deep in sharing is copied once", async () => {
  let value: unknown = [1];
  for (let level = 0; level < 100; level++) value = [value, value];
  const copy = (await handedOn(value)) as readonly unknown[];
  // Compared by identity: looking into it would take for ever.
  expect(copy[0] === copy[1]).toBe(true);
  expect(copy[0] === (value as readonly unknown[])[0]).toBe(false);
});
