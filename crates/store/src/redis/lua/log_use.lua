-- KEYS: used. ARGV: message, digest, ttl. Returns {'new'}, {'repeat', message} or {'taken', message}.
local used = read_used(KEYS[1], '-')
if used then
    return {used.digest == ARGV[2] and 'repeat' or 'taken', used.message}
end
write_used(KEYS[1], '-', ARGV[2], ARGV[1], '-', '-', ARGV[3])
return {'new'}
