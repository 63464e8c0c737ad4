import { join } from "node:path";
import { connect, createOfflineModel } from "ergos";
import { expect, test } from "vitest";

const module = join(import.meta.dirname, "feedback.yaml");

test("a draft without the price is written again, and the model hears why", async () => {
  const heard: string[] = [];
  const model = createOfflineModel({
    script: (request, call) => {
      heard.push(request.messages.at(-1)?.content ?? "");
      return call === 0 ? "A fine boat." : "A fine boat for 890 euros.";
    },
  });
  await using os = await connect({ models: [model] });

  expect(await os.run({ module })).toEqual({ text: "A fine boat for 890 euros.", revised: true });
  expect(heard[1]).toContain("the text does not name the price");
});

test("a second failure fails the run, with the reason", async () => {
  await using os = await connect({ models: [createOfflineModel({ script: () => "A fine boat." })] });
  await expect(os.run({ module })).rejects.toThrow(/does not name the price/);
});

test("the offline model finds the price when asked for more", async () => {
  await using os = await connect();
  expect(await os.run({ module })).toMatchObject({ text: expect.stringContaining("890") as unknown });
});
