import { join } from "node:path";
import { connect } from "ergos";
import { expect, test } from "vitest";

const module = join(import.meta.dirname, "approval.yaml");

test("an expense is decided by its amount", async () => {
  await using os = await connect();
  const decide = (request: string): Promise<unknown> => os.run({ module }, { input: { request } });

  expect(await decide("Pens, amount: 20 EUR. Reason: none.")).toMatchObject({
    verdict: "approved",
    by: "rule",
    desk: null,
  });
  expect(await decide("Train, amount: 180 EUR. Reason: customer visit in Berlin.")).toMatchObject({
    verdict: "approved",
    by: "reason",
  });
  expect(await decide("Train, amount: 180 EUR. Reason: fun.")).toMatchObject({ verdict: "rejected" });
});

test("a large one lies on a desk", async () => {
  await using os = await connect();
  const result = (await os.run({ module })) as { verdict: string; desk: string };

  expect(result).toMatchObject({ verdict: "ask", amount: 2400 });
  expect(await os.fs.readText(result.desk)).toContain("New desk");
});
