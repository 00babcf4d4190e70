# Events as they happen, one a line, as a person reads them. Of those that come by the thousand only the first are
# shown, and now and then how many there were. Run with: jq -n --unbuffered -r --arg dim ... (colors) -f
def limit: if startswith("session") or startswith("icmp") or startswith("arp") then 1
           elif startswith("tcp.probe") or startswith("outward.flow") then 3
           elif IN("container.file", "container.log", "container.exit", "container.listen", "container.raw") then 4
           elif startswith("container") or startswith("ssh") or startswith("shell") then 1000 else 12 end;
def end_of($a): if $a.ip then $a.ip + (if $a.port then ":\($a.port)" else "" end) else "?" end;
# What an event tells beyond its fields: a JSON object, or the first octets of something, which are shown as they are written out.
def told: (try (.data | @base64d | fromjson) catch null) as $told
    | if ($told | type) != "object" then "\"" + .text[:60] + "\""
      else [$told | to_entries[] | .key + "=" + (.value | if type == "array" then map(tostring) | join(" ") else tostring end)]
          | join(" ") | gsub("[^ -~]"; "?") | .[:80] end;
def padded($n): . + ([range($n - length) | " "] | join(""));

foreach (inputs | select(.event != "session.end" and .event != "process.state")) as $e ({};
    .n[$e.event] += 1
    | .n[$e.event] as $n
    | .line = if $e.event == "session.start" and $n % 16384 == 0 then "\($n) sessions"
              elif $n > ($e.event | limit) then null
              else $e | .time[11:23] + "  " + (.event | padded(15))
                  + " " + end_of(.src) + " -> " + end_of(.dst)
                  + (if .answer then " " + .answer else "" end)
                  + (if .duration_us then " after \(.duration_us / 1000 | floor) ms" else "" end)
                  + (if .text then " " + told else "" end)
                  + (if .reason then " (" + .reason + ")" else "" end)
              end;
    select(.line)
    | $over + "  " + (if $e.event | startswith("container") or startswith("ssh") or startswith("shell") then $bright else $dim end) + "recorded  " + .line + $plain)
