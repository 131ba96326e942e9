-- wrk's side of a window: one request again and again, and at the end its figures as JSON.
-- Latencies in microseconds, each with how often it was counted.
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
  local latencies = {}
  for index = 1, #latency do
    local value, count = latency(index)
    latencies[index] = string.format("[%d, %d]", value, count)
  end
  local errors = summary.errors
  local report = assert(io.open(os.getenv("BENCH_REPORT"), "w"))
  report:write(string.format(
    '{"microseconds": %d, "requests": %d, "refused": %d, "broken": %d, "latencies": [%s]}',
    summary.duration, summary.requests, errors.status,
    errors.connect + errors.read + errors.write + errors.timeout,
    table.concat(latencies, ", ")))
  report:close()
end
