-- What serves in this app. Change this file, or any of the others, while `luajit examples/app.lua` runs.
return {
   system = "You tell short tales.",
   route = "frugal",                      -- policies/frugal.lua
   filters = { "manners" },               -- filters/manners.lua
   pipeline = "tales",                    -- pipelines/tales.lua
   options = { max_new = 60, temperature = 0.7 },
}
