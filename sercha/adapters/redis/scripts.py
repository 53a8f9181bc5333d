"""The scripts of the dispatch: each is one step on the one key, the stream, and answers in bounded time.

An entry of the stream has one field whose value is the task's id as text. Several ids, of tasks or of entries, come
as one argument with spaces between them: the driver takes its time for each argument. Redis 7.0 or Valkey 7.2 is needed.
"""

from __future__ import annotations

from lockd.redis import Script

MAKE_GROUP = Script("""
local reply = redis.pcall('XGROUP', 'CREATE', KEYS[1], ARGV[1], '0', 'MKSTREAM')
if reply.err and not string.find(reply.err, 'BUSYGROUP', 1, true) then return reply end
return 1
""")
"""Stream; group. It begins with the oldest entry, so that none is passed over."""

OFFER = Script("""
local count, most = redis.call('XLEN', KEYS[1]), tonumber(ARGV[2])
if count >= most then return count end
local present = {}
for _, entry in ipairs(redis.call('XRANGE', KEYS[1], '-', '+')) do
  present[entry[2][2]] = true
end
for id in string.gmatch(ARGV[3], '%S+') do
  if count >= most then break end
  if not present[id] then
    redis.call('XADD', KEYS[1], '*', ARGV[1], id)
    present[id] = true
    count = count + 1
  end
end
return count
""")
"""Stream; field, how long the stream may become, ids. How long it is."""

ANNOUNCE = Script("""
local count, most = redis.call('XLEN', KEYS[1]), tonumber(ARGV[2])
for id in string.gmatch(ARGV[3], '%S+') do
  if count >= most then break end
  redis.call('XADD', KEYS[1], '*', ARGV[1], id)
  count = count + 1
end
return count
""")
"""Stream; field, how long the stream may become, ids. How long it is."""

CONFIRM = Script("""
local entries = {}
local function remove()
  redis.call('XACK', KEYS[1], ARGV[1], unpack(entries))
  redis.call('XDEL', KEYS[1], unpack(entries))
  entries = {}
end
for entry in string.gmatch(ARGV[2], '%S+') do
  entries[#entries + 1] = entry
  if #entries == 1000 then remove() end
end
if #entries > 0 then remove() end
return redis.call('XLEN', KEYS[1])
""")
"""Stream; group, entries. How long it is."""

SWEEP = Script("""
local key, group, me = KEYS[1], ARGV[1], ARGV[2]
local idle, forget, most = ARGV[3], tonumber(ARGV[4]), tonumber(ARGV[5])

local function named(flat)
  local found = {}
  for i = 1, #flat, 2 do found[flat[i]] = flat[i + 1] end
  return found
end

local taken, cursor = {}, '0-0'
repeat
  local reply = redis.call('XAUTOCLAIM', key, group, me, idle, cursor, 'COUNT', 100)
  cursor = reply[1]
  for _, entry in ipairs(reply[2]) do taken[#taken + 1] = entry end
until cursor == '0-0' or #taken >= 1000

for _, flat in ipairs(redis.call('XINFO', 'CONSUMERS', key, group)) do
  local consumer = named(flat)
  if consumer.name ~= me and consumer.pending == 0 and consumer.idle >= forget then
    redis.call('XGROUP', 'DELCONSUMER', key, group, consumer.name)
  end
end

local last
for _, flat in ipairs(redis.call('XINFO', 'GROUPS', key)) do
  local found = named(flat)
  if found.name == group then last = found['last-delivered-id'] end
end
local pending = redis.call('XPENDING', key, group, '-', '+', most)
if #pending < most then
  local held = {}
  for _, each in ipairs(pending) do held[each[1]] = true end
  for _, entry in ipairs(redis.call('XRANGE', key, '-', last, 'COUNT', most)) do
    if not held[entry[1]] then redis.call('XDEL', key, entry[1]) end
  end
end
return taken
""")
"""Stream; group, own name, milliseconds until entries and until consumers count as left, the most to look at.

The entries that were taken over, about 1,000 at most. Deleting a consumer drops what it holds, so that it is
looked at and deleted in the same step. An entry that was handed out and is held by nobody is deleted.
"""
