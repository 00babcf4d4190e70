# One event a line, as a person reads it: KIND, a tab, the rest.
select(.event != "session.end")
| .event + "\t" + .time[11:23] + " " + (.event + "                ")[:17]
+ (if .src.ip then " " + .src.ip + (if .src.port then ":\(.src.port)" else "" end) else "" end)
+ (if .dst.ip then " -> " + .dst.ip + (if .dst.port then ":\(.dst.port)" else "" end) else "" end)
+ (if .answer then " " + .answer else "" end)
+ (if .duration_us then " after \(.duration_us / 1000 | floor) ms" else "" end)
+ (if .text then " \"" + .text[:60] + "\"" else "" end)
+ (if .reason then " (" + .reason + ")" else "" end)
