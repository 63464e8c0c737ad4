// The compiler: manifests against the YAML parser alone, conditions over large inputs, the start of `validate`.

import { spawnSync } from "node:child_process";
import { existsSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { compileManifest } from "@ergos/compiler";
import { evaluateCondition, objectScope, parseExpression } from "@ergos/compiler/expression";
import { parseAllDocuments } from "yaml";
import { type Bench, alternate, microsecondsPer, toResult } from "./measure.ts";

const head = "apiVersion: ergos/v1\nkind: Pipeline\nmetadata: { name: big }\nspec:\n  nodes:\n";

function bigManifest(nodes: number): string {
  const list = Array.from({ length: nodes }, (_, at) => {
    const above = at < 20 ? "input.text" : `n${at - 20} ~ n${at - 7}`;
    return `    - name: n${at}\n      kind: llm\n      description: node ${at} of the pipeline\n      timeout: 30s\n      retry: 3\n      prompt: |\n        Tell me about {{ ${above} | truncate(100) }}.\n      output_schema: { type: string }\n`;
  });
  return head + list.join("");
}

const compileBench: Bench = {
  name: "compiler: 1,000 nodes",
  run: async () => {
    const text = bigManifest(1000);
    const samples = await alternate(7, {
      ours: async () =>
        (await microsecondsPer(1, () => {
          const { hasErrors } = compileManifest(text, { file: "big.yaml", host: { environment: {} } });
          if (hasErrors) throw new TypeError("the manifest of the benchmark has errors");
        })) / 1000,
      yaml: async () => (await microsecondsPer(1, () => parseAllDocuments(text))) / 1000,
    });
    return [
      toResult("compiling a manifest of 1,000 nodes, over parsing it with yaml alone", "ms", samples["ours"] ?? [], {
        floor: samples["yaml"] ?? [],
        target: 3,
      }),
    ];
  },
};

const whenBench: Bench = {
  name: "compiler: a condition",
  run: async () => {
    const items = Array.from({ length: 10_000 }, (_, at) => ({ id: at, tags: ["a", "b"] }));
    const scope = objectScope({ input: { items, limit: 5 } });
    const tree = parseExpression("input.items | length > input.limit and input.items[9999].id == 9999");
    const samples = await alternate(9, {
      when: () =>
        microsecondsPer(1000, () => {
          for (let at = 0; at < 1000; at++)
            if (!evaluateCondition(tree, scope)) throw new TypeError("the condition is true");
        }),
    });
    return [toResult("a `when` over an input of 10,000 items", "µs", samples["when"] ?? [], { target: 5 })];
  },
};

const validateBench: Bench = {
  name: "compiler: start of validate",
  run: async () => {
    const dir = mkdtempSync(join(tmpdir(), "ergos-bench-validate-"));
    const built = join(import.meta.dirname, "../packages/cli/dist/cli.js");
    if (!existsSync(built)) {
      console.log("left out: the start of validate (run `npm run build` first)");
      return [];
    }
    try {
      const file = join(dir, "small.yaml");
      writeFileSync(file, `${head}    - { name: a, kind: expression, value: input.x }\n`);
      const time = (args: readonly string[]) => () => {
        const started = performance.now();
        const { status, stderr } = spawnSync(process.execPath, args, {
          encoding: "utf8",
          env: { ...process.env, NODE_COMPILE_CACHE: join(dir, "cache") },
        });
        if (status !== 0) throw new TypeError(stderr);
        return performance.now() - started;
      };
      const samples = await alternate(15, { ours: time([built, "validate", file]), node: time(["-e", "0"]) });
      return [
        toResult("`ergos validate` of a small file, over bare node", "ms", samples["ours"] ?? [], {
          floor: samples["node"] ?? [],
          target: 3,
        }),
      ];
    } finally {
      rmSync(dir, { recursive: true, force: true });
    }
  },
};

export const compilerBenches: readonly Bench[] = [compileBench, whenBench, validateBench];
