-- ARGV: user, session.
enter(ARGV[1], ARGV[2])
