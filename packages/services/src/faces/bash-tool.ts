// The tool `bash`: a shell for agents, over the files that the process may use and nothing else.

import type { Os, Tool } from "@ergos/kernel";

/** Characters of each output that are given back. */
const OUTPUT_MAX = 100_000;

const bounded = (text: string): string =>
  text.length <= OUTPUT_MAX
    ? text
    : `${text.slice(0, OUTPUT_MAX)}\n… ${text.length - OUTPUT_MAX} characters more; write them into a file and read a part`;

export const BASH_TOOL: Tool<Os> = {
  name: "bash",
  description:
    "runs a script of bash with the usual commands (grep, sed, awk, find, jq, sort, …) over the files of the namespace; it has no network and no programs of the machine",
  inputSchema: {
    type: "object",
    properties: {
      script: { type: "string", minLength: 1 },
      cwd: { type: "string", minLength: 1, description: "directory in which it begins; / unless given" },
      stdin: { type: "string" },
    },
    required: ["script"],
    additionalProperties: false,
  },
  effect: "once",
  call: async ({ script, cwd, stdin }, { os, signal }) => {
    // The shell is large, and few hosts need it.
    const { openShell } = await import("./bash-fs.ts");
    const shell = await openShell(os.fs, typeof cwd === "string" ? { cwd } : {});
    const { stdout, stderr, exitCode } = await shell.exec(String(script), {
      signal,
      ...(typeof stdin === "string" ? { stdin } : {}),
    });
    return { exitCode, stdout: bounded(stdout), stderr: bounded(stderr) };
  },
};
