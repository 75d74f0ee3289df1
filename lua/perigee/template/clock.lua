--- Dates as text: strftime in English, whatever the locale.
-- @module perigee.template.clock
-- @local
local values = require "perigee.template.values"

local M = {}

local DAYS = { "Sunday", "Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday" }
local MONTHS = { "January", "February", "March", "April", "May", "June", "July", "August", "September", "October",
   "November", "December" }

local function twelve(t) return (t.hour + 11) % 12 + 1 end

-- Number of the week whose first day is `first` (0 Sunday, 1 Monday); days before it are in week 0.
local function week(t, first) return math.floor((t.yday + 6 - (t.wday - 1 - first) % 7) / 7) end

local function days_from_civil(year, month, day)
   if month <= 2 then year, month = year - 1, month + 12 end
   return 365 * year + math.floor(year / 4) - math.floor(year / 100) + math.floor(year / 400)
      + math.floor((153 * (month - 3) + 2) / 5) + day
end

-- ISO 8601: year and week; week 1 has the first Thursday.
local function iso(t)
   local weekday = (t.wday + 5) % 7                            -- 0 Monday
   local number = math.floor((t.yday - 1 - weekday + 10) / 7)
   local function weeks(year)
      local first = (days_from_civil(year, 1, 1) - days_from_civil(2024, 1, 1)) % 7     -- 0: begins on a Monday
      local leap = days_from_civil(year, 12, 31) - days_from_civil(year, 1, 1) == 365
      return (first == 3 or leap and first == 2) and 53 or 52
   end
   if number < 1 then return t.year - 1, weeks(t.year - 1) end
   if number > weeks(t.year) then return t.year + 1, 1 end
   return t.year, number
end

local function two(x) return ("%02d"):format(x) end

local FIELDS = {
   a = function(t) return DAYS[t.wday]:sub(1, 3) end,
   A = function(t) return DAYS[t.wday] end,
   b = function(t) return MONTHS[t.month]:sub(1, 3) end,
   B = function(t) return MONTHS[t.month] end,
   C = function(t) return two(math.floor(t.year / 100)) end,
   d = function(t) return two(t.day) end,
   e = function(t) return ("%2d"):format(t.day) end,
   f = function() return "000000" end,
   G = function(t) return tostring((iso(t))) end,
   g = function(t) return two(iso(t) % 100) end,
   H = function(t) return two(t.hour) end,
   I = function(t) return two(twelve(t)) end,
   j = function(t) return ("%03d"):format(t.yday) end,
   k = function(t) return ("%2d"):format(t.hour) end,
   l = function(t) return ("%2d"):format(twelve(t)) end,
   m = function(t) return two(t.month) end,
   M = function(t) return two(t.min) end,
   n = function() return "\n" end,
   p = function(t) return t.hour < 12 and "AM" or "PM" end,
   P = function(t) return t.hour < 12 and "am" or "pm" end,
   s = function(t) return tostring(t.epoch) end,
   S = function(t) return two(t.sec) end,
   t = function() return "\t" end,
   u = function(t) return tostring((t.wday + 5) % 7 + 1) end,
   U = function(t) return two(week(t, 0)) end,
   V = function(t) return two(select(2, iso(t))) end,
   w = function(t) return tostring(t.wday - 1) end,
   W = function(t) return two(week(t, 1)) end,
   y = function(t) return two(t.year % 100) end,
   Y = function(t) return tostring(t.year) end,
   z = function() return "" end,
   Z = function() return "" end,
   ["%"] = function() return "%" end,
}
local COMPOSED = { c = "%a %b %e %H:%M:%S %Y", D = "%m/%d/%y", F = "%Y-%m-%d", r = "%I:%M:%S %p", R = "%H:%M",
   T = "%H:%M:%S", x = "%m/%d/%y", X = "%H:%M:%S", h = "%b" }

-- Fields of "YYYY-MM-DDTHH:MM:SS"; nil when it is none.
local function parsed(time)
   local year, month, day, hour, min, sec = time:match "^(%d%d%d%d)%-(%d%d)%-(%d%d)[T ](%d%d):(%d%d):(%d%d)"
   if not year then return nil end
   local t = { year = tonumber(year), month = tonumber(month), day = tonumber(day), hour = tonumber(hour),
      min = tonumber(min), sec = tonumber(sec) }
   if t.month < 1 or t.month > 12 or t.day < 1 or t.day > 31 then return nil end
   if t.hour > 23 or t.min > 59 or t.sec > 60 then return nil end
   local days = days_from_civil(t.year, t.month, t.day)
   t.yday = days - days_from_civil(t.year, 1, 1) + 1
   t.wday = (days - days_from_civil(2023, 1, 1)) % 7 + 1      -- 2023-01-01 was a Sunday
   t.epoch = (days - days_from_civil(1970, 1, 1)) * 86400 + t.hour * 3600 + t.min * 60 + t.sec
   return t
end
M.parse = parsed

--- A time as text.
-- @tparam string format as for strftime
-- @tparam ?string time "YYYY-MM-DDTHH:MM:SS"; nil: now, local time
-- @treturn string
function M.format(format, time)
   local t = parsed(time or os.date "%Y-%m-%dT%H:%M:%S")
   values.check_size(#format * 16)
   return (format:gsub("%%([-_0^#]?)([%a%%])", function(flag, letter)
      local piece = COMPOSED[letter] and M.format(COMPOSED[letter], time) or FIELDS[letter] and FIELDS[letter](t)
      if not piece then return nil end
      if flag == "-" then return (piece:gsub("^[0 ]+(%d)", "%1")) end
      if flag == "_" then return (piece:gsub("^0(%d)", " %1")) end
      return flag == "^" and piece:upper() or piece
   end))
end

return M
