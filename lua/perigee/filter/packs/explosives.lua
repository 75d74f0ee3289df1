-- Explosives; chemical, biological, radiological and nuclear weapons; how a pack is written: common.lua here.
return {
   category = "explosives",
   title = "explosives and weapons of mass destruction: making, getting, placing them",
   parts = {
      make = [[\b(?:mak|build|construct|assembl|synthesi[sz]|produc|manufactur|prepar|mix|cook|creat|brew|weaponi[sz]|cultur|grow|enrich|purif|extract|concoct)\w*]],
      bomb = [[(?<!bath )(?<!cherry )(?<!photo)(?<!zip )(?<!fork )(?<!chocolate )(?<!seed )(?<!glitter )(?<!logic )\b(?:[a-z]+ )?]]
         .. [[(?:bombs?(?! (?:calorimeter|cyclone|shelter|disposal|squad|threat|cocktail|dance|jacket|in (?:minecraft|the game)))|ieds?\b]]
         .. [[|explosives?(?! (?:growth|detect|device detect))|explosive devices?|grenades?|molotovs?|landmines?|detonators?|tatp|c-?4|tnt|semtex|nitroglycerin\w*|rdx|petn|gunpowder|thermite)]],
      cbrn = [[(?:sarin|vx gas|nerve (?:gas|agents?)|mustard gas|chlorine gas|poison gas|toxic gas|chemical weapons?|bio(?:logical )?weapons?|ricin|anthrax]]
         .. [[|botulinum|smallpox|plutonium|uranium|nuclear (?:weapons?|bombs?|device)|dirty bombs?|radioactive material|nukes?|plague bacteria|novichok|phosgene)]],
      zbomb = [[(?:炸弹(?!人)|炸药|爆炸装置|爆炸物|土炸弹|雷管|燃烧瓶|燃烧弹|手雷|地雷|硝化甘油|黑火药|引爆装置|黑索金|TNT|tnt|TATP|C4)]],
      zcbrn = [[(?:毒气|沙林|神经毒剂|神经性毒剂|芥子气|氯气|生化武器|生物武器|化学武器|核弹|核武器|原子弹|脏弹|炭疽|蓖麻毒素|肉毒(?:杆菌)?毒素|浓缩铀|铀|钚|病毒武器|光气|VX)]],
      zmake = [[(?:制造|制作|自制|合成|制取|提取|提炼|配制|做|造|弄到|组装|培养|改造|生产|获取|搞到)]],
      nogame = [[(?![^。!?\n]{0,8}(?:游戏|关卡|鸡|鸡尾酒|泡澡|沐浴))]],
   },
   en = {
      words = { "anarchist cookbook recipe", "bomb-making manual", "bomb making manual", "homemade explosives recipe" },
      regex = {
         [[<ask><gap><make><gap><bomb>]],
         [[(?:<ask>|\bneed a )<gap>(?:<make>|\b(?:get|obtain|buy|acquir|spread|releas|us)\w*|formula|recipe)<gap>\b<cbrn>\b]],
         [[\b(?:recipe|formula|instructions|blueprints?|tutorial|manual) (?:for|to|on)<gap>(?:<bomb>|\b<cbrn>\b)]],
         [[<make><near>\b(?:pipe bombs?|nail bombs?|ieds?|explosive devices?|nerve (?:gas|agents?)|sarin)\b<gap>\b(?:at home|in (?:a|the|my) (?:garage|kitchen|basement)|phone|step)]],
         [[\bweaponi[sz]e<near>\b(?:virus|pathogen|bacteri\w+|disease|toxin|anthrax)]],
         [[\b(?:plant|place|hide|set off|detonate|leave)(?:ing)? (?:a|the|my|this) (?:[a-z]+ )?(?:bomb|explosive|device|ied)\b<after>]],
         [[<ask><gap>\b(?:blow(?:ing)? up|bomb(?:ing)?|derail)\b (?:a|the|my|this|that) (?:\w+ )?(?:bridge|building|school|train|plane|airport|station|embassy|dam|power|church|mosque|house|stadium|office)]],
         [[<trade><near>\b(?:explosives|detonators|grenades|tnt|c-?4|plutonium|uranium|ricin|sarin)\b<after>]],
      },
      allow = { words = { "bath bomb", "bath bombs" }, regex = { "<allowed>",
         [[\b(?:minecraft|bath bombs?|cake|ice cream|sourdough)\b[^.!?\n]{0,60}]] } },
   },
   zh = {
      words = { "土炸药配方", "炸药配方", "炸弹制作教程", "毒气配方" },
      regex = {
         [[<zask><zgap><zmake>[^。!?\n]{0,9}<zbomb><nogame>]],
         [[<zask><zgap>(?:<zmake>|投放|释放)[^。!?\n]{0,12}<zcbrn>]],
         [[(?:<zbomb>|<zcbrn>)[^。!?\n]{0,6}(?:怎么|如何|怎样)(?:做|制|造|配|合成)(?!.{0,6}(?:泡澡|游戏))]],
         [[(?:<zbomb>|<zcbrn>)(?:的)?[^。!?\n]{0,8}(?:制作|制造|合成|提取|完整)?[^。!?\n]{0,3}(?:配方|步骤|教程|方法|流程)<zafter>]],
         [[(?:自制|做|造)[^。!?\n]{0,3}<zbomb>[^。!?\n]{0,6}(?:步骤|方法|教程|材料)]],
         [[(?:放|埋|安装|安|装|引爆)(?:置|设)?(?:一颗|一个|个|几颗)?(?:遥控)?(?:炸弹|炸药)[^。!?\n]{0,10}(?:伤亡|人多|哪里|最大|炸死)]],
         [[<ztrade>[^。!?\n]{0,6}(?:雷管|炸药|炸弹|手雷|毒气|氰化物|毒鼠强)<zafter>]],
         [[<zask><zgap>(?:炸毁|炸掉|炸塌|炸死|爆破掉)]],
         [[<zask><zgap>把?病毒[^。!?\n]{0,6}(?:改造|武器)]],
      },
      allow = { words = { "深水炸弹" }, regex = { "<zallowed>", [[(?:游戏|我的世界|泡澡球)[^。!?\n]{0,30}]] } },
   },
}
