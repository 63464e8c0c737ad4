import { type ModelRequest, connect, createOfflineModel } from "ergos";
import { expect, test } from "vitest";
import agent from "./agent.ts";

test("the offline model calls the tool that is mentioned, and answers with what it says", async () => {
  await using os = await connect();

  const { answer, calls } = await os.run(agent, { input: {} });

  expect(calls).toBe(1);
  expect(answer).toMatch(/read_file/);
});

test("what a tool refuses is told to the model, which goes on", async () => {
  const heard: string[] = [];
  const model = createOfflineModel({
    script: ({ messages }: ModelRequest) => {
      heard.push(...messages.filter(({ role }) => role === "tool").map(({ content }) => content));
      const last = messages.at(-1);
      if (last?.role === "user") return { toolCalls: [{ name: "read_file", arguments: { path: "/home/secret" } }] };
      if (last?.content.startsWith("error: [EACCES]") === true)
        return { toolCalls: [{ name: "list_directory", arguments: { path: "/lib/tools" } }] };
      return `there are ${(JSON.parse(last?.content ?? "[]") as unknown[]).length} tools`;
    },
  });
  await using os = await connect({ models: [model] });
  await os.fs.writeFile("/home/secret", "nobody knows");

  const grants = ["self", "llm", "tool.call", "fs.list:/lib/tools"];
  const { answer } = await os.run(agent, { input: { question: "What is there?" }, grants });

  expect(heard[0]).toMatch(/^error: \[EACCES\].*\/home\/secret/);
  expect(answer).toMatch(/^there are \d+ tools$/);
});
