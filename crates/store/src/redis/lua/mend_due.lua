-- KEYS: part of the due list. ARGV: how long a fact may be on its way in ms, then entries without a fact. One that is
-- seen for the first time is put off; one that was put off before is dropped.
local time = redis.call('TIME')
local later = time[1] * 1000 + math.floor(time[2] / 1000) + ARGV[1]
for at = 2, #ARGV do
    local score = redis.call('ZSCORE', KEYS[1], ARGV[at])
    if score and tonumber(score) == tonumber(string.match(ARGV[at], '%-?%d+$')) then
        redis.call('ZADD', KEYS[1], string.format('%.0f', later), ARGV[at])
    else
        redis.call('ZREM', KEYS[1], ARGV[at])
    end
end
