import { join } from "node:path";
import { connect } from "ergos";
import { expect, test } from "vitest";

const module = join(import.meta.dirname, "router.yaml");

test("each message reaches its desk", async () => {
  await using os = await connect();
  const ask = (message: string): Promise<unknown> => os.run({ module }, { input: { message } });

  expect(await ask("My invoice is wrong, I was charged twice.")).toMatchObject({ desk: "billing" });
  expect(await ask("I get an error at login, it is down.")).toMatchObject({
    desk: "technical",
    answer: expect.stringMatching(/\S/) as unknown,
  });
  expect(await ask("I want to buy a plan, send a quote.")).toMatchObject({
    desk: "sales",
    answer: expect.stringMatching(/^A colleague/) as unknown,
  });
  expect(await ask("Lorem ipsum.")).toEqual({ desk: "other", answer: "Please tell us more." });
});
