-- wrk's side of a window: one request again and again, and at the end its figures as JSON.
-- Latencies in microseconds.
local function read(variable)
  local file = assert(io.open(os.getenv(variable), "rb"))
  local content = file:read("*a")
  file:close()
  return content
end

wrk.method = "POST"
wrk.body = read("BENCH_BODY")
for name, value in string.gmatch(read("BENCH_HEADERS"), "([^:\n]+): ([^\n]+)") do
  wrk.headers[name] = value
end

function done(summary, latency)
  local errors = summary.errors
  local report = assert(io.open(os.getenv("BENCH_REPORT"), "w"))
  report:write(string.format(
    '{"microseconds": %d, "requests": %d, "p50": %d, "p99": %d, "refused": %d, "broken": %d}',
    summary.duration, summary.requests, latency:percentile(50), latency:percentile(99),
    errors.status, errors.connect + errors.read + errors.write + errors.timeout))
  report:close()
end
