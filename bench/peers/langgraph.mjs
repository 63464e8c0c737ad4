// LangGraph's graphs of no-op nodes; with `saver`, its checkpointer in memory.
import { Annotation, END, MemorySaver, START, StateGraph } from "@langchain/langgraph";

const State = Annotation.Root({ value: Annotation({ reducer: (_before, after) => after, default: () => 0 }) });

export function chain(length, saver) {
  const graph = new StateGraph(State);
  for (let at = 0; at < length; at++) graph.addNode(`n${at}`, async () => ({ value: 1 }));
  graph.addEdge(START, "n0");
  for (let at = 1; at < length; at++) graph.addEdge(`n${at - 1}`, `n${at}`);
  graph.addEdge(`n${length - 1}`, END);
  return runner(graph.compile(saver ? { checkpointer: new MemorySaver() } : {}));
}

export function layered(layers, width) {
  const graph = new StateGraph(State);
  for (let at = 0; at < layers * width; at++) graph.addNode(`n${at}`, async () => ({ value: 1 }));
  for (let at = 0; at < width; at++) graph.addEdge(START, `n${at}`);
  for (let at = width; at < layers * width; at++) {
    const layer = Math.floor(at / width);
    for (const name of new Set([0, 1, 7].map((step) => `n${(layer - 1) * width + ((at + step) % width)}`)))
      graph.addEdge(name, `n${at}`);
  }
  return runner(graph.compile());
}

function runner(graph) {
  let threads = 0;
  return () => graph.invoke({ value: 0 }, { recursionLimit: 1000, configurable: { thread_id: String(threads++) } });
}
