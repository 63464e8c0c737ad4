// Schemas: what is checked, and that nothing of one is passed over.

import { type Schema, validate } from "@ergos/kernel";
import { expect, test } from "vitest";
import { bootKernel } from "./kernel-fixture.ts";

const says = (schema: Schema, value: unknown): readonly string[] =>
  validate(schema, value).map(({ message }) => message);

test.each<[Schema, readonly unknown[], readonly unknown[]]>([
  [{ const: "a" }, ["a"], ["b", 1, null]],
  [{ type: "string", pattern: "^[^@]+@[^@]+$" }, ["a@b"], ["a", 5]],
  [{ type: "number", exclusiveMinimum: 0, exclusiveMaximum: 10 }, [0.1, 9.9], [0, 10, -5]],
  [{ oneOf: [{ type: "integer" }, { type: "number" }] }, [1.5], [1, "x"]],
  [{ allOf: [{ minimum: 1 }, { maximum: 3 }] }, [1, 3], [0, 4]],
  [{ multipleOf: 0.1 }, [0.3, 2], [0.35]],
  [{ not: { type: "string" } }, [1], ["a"]],
  [{ type: "object", propertyNames: { maxLength: 2 } }, [{ ab: 1 }], [{ abc: 1 }]],
  [{ prefixItems: [{ type: "string" }, { type: "number" }] }, [["a", 1], ["a"]], [["a", "b"]]],
  [{ type: "string", pattern: "[\\w-]+\\-x" }, ["a-x"], ["a"]],
  [{ type: "object", anyOf: [{ required: ["a"] }, { required: ["b"] }] }, [{ a: 1 }, { b: 1 }], [{}, "text"]],
])("%j takes %j and refuses %j", (schema, right, wrong) => {
  for (const value of right) expect(says(schema, value)).toEqual([]);
  for (const value of wrong) expect(says(schema, value)).not.toEqual([]);
});

test("what fits none of several forms is told what they are, or what is wrong with the one that is meant", () => {
  const anyOf: Schema = {
    anyOf: [
      { type: "string", enum: ["always", "never"] },
      { type: "object", properties: { policy: { type: "string" }, max: { type: "integer" } }, required: ["policy"] },
    ],
  };
  expect(says(anyOf, "alwys")).toEqual(["must be one of always, never"]);
  expect(says(anyOf, { max: "3" })).toEqual(["is missing", "must be integer, found string"]);
  expect(says(anyOf, 5)).toEqual(['fits none of the allowed forms: "always", "never"; { policy, max }']);
});

test("a tool whose schema would be checked in part is refused, with the place", async () => {
  const giving = (inputSchema: Schema | Readonly<Record<string, unknown>>): Promise<unknown> =>
    bootKernel({ tools: [{ name: "t", description: "", inputSchema, effect: "pure", call: () => 1 }] }).then((kernel) =>
      kernel.close(),
    );
  const at = (inner: object): object => ({ type: "object", properties: { a: { type: "array", items: inner } } });

  await giving({ $schema: "https://json-schema.org/draft/2020-12/schema", ...at({ format: "email", pattern: "@" }) });
  await expect(giving({ ...at({ uniqueItems: true }) })).rejects.toThrow(/tool t\.properties\.a\.items\.uniqueItems/);
  await expect(giving({ ...at({ pattern: "(" }) })).rejects.toThrow(/pattern is no regular expression/);
  await expect(giving({ ...at({ anyOf: [{ $ref: "#" }] }) })).rejects.toThrow(/anyOf\[0\]\.\$ref/);
  await expect(giving({ ...at({ pattern: "^([a-z]+\\s?)*$" }) })).rejects.toThrow(
    /pattern repeats what repeats itself/,
  );
  await giving({ ...at({ pattern: "^(?:[a-z]+-)+[a-z]+$", id: "x" }) });
  for (const wrong of [{ anyOf: {} }, { properties: null }, { enum: "abc" }, { type: "strng" }, { required: "a" }])
    await expect(giving(at(wrong) as never)).rejects.toThrow(/EINVAL.*must be/);
  const itself: Record<string, unknown> = { type: "object" };
  itself["properties"] = { again: itself };
  await expect(giving(itself)).rejects.toThrow(/EINVAL.*holds itself/);
  await expect(giving([] as never)).rejects.toThrow(/EINVAL.*a schema/);
});
