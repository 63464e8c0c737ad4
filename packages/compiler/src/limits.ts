// Bounds of manifests. Reaching one is E102.

export const MANIFEST_LIMITS = {
  /** Bytes of one file. */
  fileBytesMax: 8 * 1024 * 1024,
  /** Files that one manifest includes, and how deep. */
  includesMax: 200,
  includeDepthMax: 10,
  /** Nesting of YAML. */
  depthMax: 100,
  /** Values of one manifest, includes and expanded aliases counted. */
  valuesMax: 300_000,
  /** Documents of one file. */
  documentsMax: 100,
  /** Nodes of one pipeline. */
  nodesMax: 20_000,
} as const;
