// An agent: a model that is offered tools, and asked again with what they say until it has an answer. Its turns and its
// calls are steps: killed in the middle, it goes on with what it knew. A tool is called with the rights of the process.
//
//   ergos run examples/agent --input question="Use list_directory with path: /lib/tools"
//   ergos run examples/agent --cap llm --cap tool.call:read_file --cap "fs.read:/home/**"

import { type ModelMessage, type RunContext } from "ergos";

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
  const messages: ModelMessage[] = [
    { role: "system", content: INSTRUCTIONS },
    { role: "user", content: question },
  ];
  let calls = 0;
  for (let turn = 1; turn <= turnsMax; turn++) {
    const tools = ["read_file", "list_directory", "glob", "grep"];
    const { text, toolCalls } = await ctx.infer(`turn ${turn}`, { messages, tools });
    if (toolCalls === undefined) return { answer: text, calls };
    messages.push({ role: "assistant", content: text, toolCalls });
    const answers = toolCalls.map((call, at) => ctx.answerToolCall(`turn ${turn} call ${at + 1}`, call));
    messages.push(...(await Promise.all(answers)));
    calls += toolCalls.length;
  }
  throw new Error(`no answer after ${turnsMax} turns; allow more by turnsMax, or ask for less`);
}
