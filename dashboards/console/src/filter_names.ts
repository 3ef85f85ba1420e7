/** What rows can be filtered by, as api/ knows it. */
export const FILTERS = [
  "organisation", "team", "project", "environment", "tier", "model", "provider", "deployment", "alias",
  "user", "key", "feature", "customer", "status", "error_kind",
];

/** Those that the hourly and daily sums know. */
export const USAGE_FILTERS = [
  "organisation", "team", "project", "environment", "feature", "alias", "provider", "model",
];
