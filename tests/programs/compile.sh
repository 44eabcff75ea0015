# SPDX-License-Identifier: MIT OR Apache-2.0
#
# Runs in the userland: compiles Lua on the share and uses what comes of it. Argument: how gcc optimizes, like -O0.
cd /mnt
tar --extract --file /src/lua5.4.tar.gz --no-same-owner
cd lua-*
begin=$(date +%s)
make --silent posix MYCFLAGS="$1" 2>/tmp/errors || { cat /tmp/errors; exit 1; }
echo "compiled: $(find src -name '*.o' | wc -l) objects in $(($(date +%s) - begin)) s"
# The times of the files say that nothing is left to be done.
make posix MYCFLAGS="$1" >/tmp/again 2>&1
if grep -e '^gcc' -e '^ar' /tmp/again; then echo "differs: compiled again"; fi

cat >/mnt/program.lua <<'PROGRAM'
local sieve, primes = {}, {}
for n = 2, 20000 do
    if not sieve[n] then
        primes[#primes + 1] = n
        for multiple = n * n, 20000, n do sieve[multiple] = true end
    end
end
local file <close> = assert(io.open("/mnt/primes", "w+"))
for _, prime in ipairs(primes) do file:write(prime, "\n") end
file:seek("set")
local count, sum = 0, 0
for line in file:lines() do count, sum = count + 1, sum + tonumber(line) end
print(_VERSION, count, sum)
PROGRAM
src/lua /mnt/program.lua
src/luac -s -o /mnt/program.luac /mnt/program.lua
src/lua /mnt/program.luac
sha256sum src/lua src/luac src/liblua.a
