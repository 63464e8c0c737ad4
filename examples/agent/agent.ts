// An agent: a model that is offered tools, and asked again with what they say until it has an answer. Its turns and its
// calls are steps: killed in the middle, it goes on with what it knew, and asks again what was under way. A tool is
// called with the rights of the process.
//
//   ergos run examples/agent --input question="Use list_directory with path: /lib/tools"
//   ergos run examples/agent --cap llm --cap tool.call:read_file --cap "fs.read:/home/**"

import { type RunContext, converse } from "ergos";

export interface AgentInput {
  readonly question?: string;
  readonly turnsMax?: number;
}

const INSTRUCTIONS = "Answer the question with what you find by the tools. Say so when you cannot find it.";
const QUESTION = "Which tools are there? Use list_directory with path: /lib/tools";

export default async function agent(
  { question = QUESTION, turnsMax = 10 }: AgentInput,
  ctx: RunContext,
): Promise<{ readonly answer: string; readonly calls: number }> {
  const messages = [
    { role: "system", content: INSTRUCTIONS },
    { role: "user", content: question },
  ] as const;
  const tools = ["read_file", "list_directory", "glob", "grep"];
  const { answer, calls } = await converse(ctx, "talk", { messages, tools }, { turnsMax, onUnknown: "repeat" });
  return { answer: answer.text, calls };
}
