-- The clock of the master that holds KEYS[1].
return redis.call('TIME')
