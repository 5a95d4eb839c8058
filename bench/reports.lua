-- wrk's side of bench/ingest.py: one report a request, each for the next of so many users, time rising.
--
-- Arguments: path, content type, file of templates, users, end of the first report (epoch ms), answers after which it
-- sends no more (0: never).
-- A template is a body in which @USER___________@, @START______@ and @END________@ stand for the user and the times, in
-- as many characters; templates are told apart by a byte 1. Requests are put together from parts: wrk keeps up.

local requests, answers, templates, users, first_end, window = 0, 0, {}, 0, 0, 5000
local name_of_user = {}

local function parts_of(body, head)
  local parts, rest = {}, head .. body
  while true do
    local from, to, name = rest:find("@(%u+)_*@")
    if not from then
      parts[#parts + 1] = rest
      return parts
    end
    parts[#parts + 1] = rest:sub(1, from - 1)
    parts[#parts + 1] = name
    rest = rest:sub(to + 1)
  end
end

function init(args)
  local path, content_type, file = args[1], args[2], args[3]
  users, first_end = tonumber(args[4]), tonumber(args[5])
  for user = 0, users - 1 do
    name_of_user[user] = string.format("02:00:00:00:%02x:%02x", math.floor(user / 256), user % 256)
  end
  local content = assert(io.open(file, "rb")):read("*a")
  for body in content:gmatch("[^\1]+") do
    local head = string.format(
      "POST %s HTTP/1.1\r\nHost: %s\r\nContent-Type: %s\r\nContent-Length: %d\r\n\r\n",
      path, wrk.headers["Host"], content_type, #body)
    templates[#templates + 1] = parts_of(body, head)
  end
  local most = tonumber(args[6])
  if most > 0 then
    -- Only where it is wanted: wrk does more for each answer that is looked at.
    response = function()
      answers = answers + 1
      if answers == most then wrk.thread:stop() end
    end
  end
end

function request()
  local user = requests % users
  local stop = first_end + window * math.floor(requests / users)
  local template = templates[requests % #templates + 1]
  requests = requests + 1
  local texts = {
    USER = name_of_user[user], START = string.format("%.0f", stop - window), END = string.format("%.0f", stop)
  }
  local filled = {}
  for place = 1, #template, 2 do
    filled[place] = template[place]
    filled[place + 1] = texts[template[place + 1]]
  end
  return table.concat(filled)
end

function done(summary, latency, _)
  local errors = summary.errors
  io.write(string.format(
    '{"requests":%d,"seconds":%.6f,"refused":%d,"broken":%d,"p50_us":%d,"p99_us":%d,"max_us":%d}\n',
    summary.requests, summary.duration / 1e6, errors.status,
    errors.connect + errors.read + errors.write + errors.timeout,
    latency:percentile(50), latency:percentile(99), latency.max))
end
