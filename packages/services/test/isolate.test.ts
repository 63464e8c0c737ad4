import { expect, test } from "vitest";
import { isolated } from "../src/plan/isolate.ts";

test("a copy shares nothing that can be changed, keeps what is twice and what is in a circle, and leaves the rest", () => {
  const date = new Date(0);
  const shared = { n: [1] };
  const value: Record<string, unknown> = { a: [shared, shared, "x", null, date], shared };
  value["self"] = value;
  const copy = isolated(value) as typeof value & { a: { n: number[] }[]; shared: { n: number[] } };

  expect(copy.a[0]).toEqual({ n: [1] });
  expect(copy.a[0]).not.toBe(shared);
  expect(copy.a[0]?.n).not.toBe(shared.n);
  expect(copy.a[1]).toBe(copy.a[0]);
  expect(copy.shared).toBe(copy.a[0]);
  expect(copy["self"]).toBe(copy);
  expect(copy.a[4]).toBe(date);
  expect(isolated(date)).toBe(date);
  expect(isolated(5)).toBe(5);
  expect(Object.keys(isolated(JSON.parse('{"__proto__":{"a":1}}') as object) as object)).toEqual(["__proto__"]);
});

test("what is deep in sharing is copied once", () => {
  let value: unknown = [1];
  for (let level = 0; level < 100; level++) value = [value, value];
  const copy = isolated(value) as readonly unknown[];
  // Compared by identity: looking into it would take for ever.
  expect(copy[0] === copy[1]).toBe(true);
  expect(copy[0] === (value as readonly unknown[])[0]).toBe(false);
});
