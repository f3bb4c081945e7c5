-- A load for wrk: random requests out of a file, each answer checked by its status, and the result as one line of JSON.
--
--     wrk -s load.lua http://HOST:PORT -- REQUESTS STATUSES RUN
--
-- REQUESTS is a Lua chunk that returns whole HTTP requests; STATUSES are the expected ones, separated by commas. In a
-- request, @@@@@@@@@@@@@ is replaced by a number of as many digits that no other request of this RUN has.

local PLACEHOLDER = string.rep("@", 13)
local threads = {}

function setup(thread)
  thread:set("thread_number", #threads)
  table.insert(threads, thread)
end

function init(args)
  requests = dofile(args[1])
  expected = {}
  for status in args[2]:gmatch("%d+") do
    expected[tonumber(status)] = true
  end
  run = tonumber(args[3])
  count, wrong, wrong_status = 0, 0, 0
  -- The same numbers for each server in a round, and others in each round.
  math.randomseed(run * 100 + thread_number)
end

function request()
  local text = requests[math.random(#requests)]
  if not text:find(PLACEHOLDER, 1, true) then
    return text
  end
  count = count + 1
  return (text:gsub(PLACEHOLDER, string.format("%04d%02d%07d", run, thread_number, count)))
end

function response(status)
  if not expected[status] then
    wrong, wrong_status = wrong + 1, status
  end
end

function done(summary, latency)
  local wrong, wrong_status = 0, 0
  for _, thread in ipairs(threads) do
    wrong = wrong + thread:get("wrong")
    wrong_status = math.max(wrong_status, thread:get("wrong_status"))
  end
  local errors = summary.errors
  print(string.format(
    '{"requests": %d, "seconds": %.6f, "bytes": %d, "wrong": %d, "wrong_status": %d, "broken": %d, "timeouts": %d, '
      .. '"p50_us": %.0f, "p99_us": %.0f, "p999_us": %.0f, "max_us": %.0f}',
    summary.requests, summary.duration / 1e6, summary.bytes, wrong, wrong_status,
    errors.connect + errors.read + errors.write, errors.timeout,
    latency:percentile(50), latency:percentile(99), latency:percentile(99.9), latency.max
  ))
end
